"""Ray, and nothing else of it anywhere: `on_ray` is the door, through which all work goes that divides (`factory.spread`)."""
