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
