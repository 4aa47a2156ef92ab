"""What flows and rests: events, tables, keys and counters."""
