// What scrolls sideways takes the focus, so that the arrow keys move it. The theme looks for such code and outputs once,
// while the solutions are still folded; here it is done for those that have just been opened.
function letScrollersTakeFocus(opened) {
  for (const part of opened.querySelectorAll("pre, .cell_output > .output")) {
    part.tabIndex = part.scrollWidth > part.clientWidth ? 0 : -1;
  }
}
document.addEventListener("toggle", (event) => letScrollersTakeFocus(event.target), true); // of <details>
document.addEventListener("click", (event) => {
  const admonition = event.target.closest?.(".toggle");
  if (admonition) letScrollersTakeFocus(admonition);
});

// What the page's makers write for screen readers and get wrong: the name of a button that hides its words, and lists that
// lie in lists without an item between them (the list of the package's sources).
document.addEventListener("DOMContentLoaded", () => {
  for (const summary of document.querySelectorAll("summary[aria-label]")) summary.removeAttribute("aria-label");
  for (const list of document.querySelectorAll("article ul > ul")) list.previousElementSibling?.append(list);
});
