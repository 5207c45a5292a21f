"""Who is who over time, and who is where: tracks, zones and lines of one stream."""
