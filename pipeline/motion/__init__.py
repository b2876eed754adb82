"""People over time: followed, repaired, lifted, smoothed, and set into a world."""
