"""Pure: what the admin API answers (plain dicts) -> text. `.plain` of it is exact, the colours are extra."""
