"""What knows nothing of videos: errors, places, progress, devices, digests, locks."""
