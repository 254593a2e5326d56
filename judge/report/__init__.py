"""Reports of comparisons as HTML, Markdown, JSON and SVG, from the database alone."""
