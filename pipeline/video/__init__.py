"""Videos and pictures in and out: ffmpeg, threads that work ahead, and interrupts."""
