"""How trials are chosen, placed and stopped early. The only room that imports Ray, and only inside the modules that need it."""
