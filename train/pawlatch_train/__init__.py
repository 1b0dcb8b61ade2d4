"""The training room: a folder of photos to a fine-tuned MobileNetV2 SavedModel with its card."""
