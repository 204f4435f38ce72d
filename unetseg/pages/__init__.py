"""What every HTML page is made of: parts, charts, pictures of scans, and the file they become."""
