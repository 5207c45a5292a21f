"""Who may call what: keys, tokens, roles, scope and quotas. Pure decisions; `serve_app.api` asks and obeys."""
