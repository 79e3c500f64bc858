"""Broken JSON: a cheapest-repair search over source spans. It reads and edits text; it never dumps a value."""
