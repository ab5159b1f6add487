"""Names by which media files are found in folders. What a file is, is decided by its content."""

VIDEO_SUFFIXES = frozenset(
    [".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".flv", ".gif", ".wmv"]
    + [".asf", ".ogv", ".3gp"]
)
IMAGE_SUFFIXES = frozenset([".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm"])
SOUND_SUFFIXES = frozenset([".wav", ".mp3", ".flac", ".ogg", ".m4a"])
MEDIA_SUFFIXES = VIDEO_SUFFIXES | IMAGE_SUFFIXES | SOUND_SUFFIXES
