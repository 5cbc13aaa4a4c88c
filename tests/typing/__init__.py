"""Programs that nobody runs: mypy reads them, and every `assert_type` in them is a promise to users' type checkers."""
