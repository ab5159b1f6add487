"""Seeds into clips, scripts, captions and questions: the generated world of the quickstart."""
