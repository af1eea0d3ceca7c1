/* Not a module: it runs before the first paint, so that a chosen theme does not flash. */
try {
  const theme = JSON.parse(localStorage.getItem("tandem.theme"));
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
} catch {
  // Without storage the system's preference decides.
}
