"""BlazePose, the embedded detector: its networks run directly, by OpenVINO."""
