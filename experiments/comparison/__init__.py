"""Methods side by side: one table or picture a module."""
