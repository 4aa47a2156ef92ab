"""How fast, how frugal and how right: measures activity-aggregate-updater on the local stack."""
