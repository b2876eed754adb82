"""The page of ``gridpose app``: :func:`gridpose.pipeline.run_video` in a browser, by Gradio."""
