"""What a site needs around the jobs."""
