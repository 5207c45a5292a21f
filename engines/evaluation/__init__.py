"""How well a model package detects: against labels, by COCO's measures, and against another package without any."""
