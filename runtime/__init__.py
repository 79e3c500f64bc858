"""How a workflow runs: scheduler, executor, routing, repair, journal and events. Loads nothing by itself."""
