"""With whom the jobs talk: one small interface for each store or service, the real client and its in-memory twin."""
