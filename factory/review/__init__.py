"""Work for people: what to ask next, and likely label errors."""
