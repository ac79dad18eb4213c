// What scrolls sideways takes the focus, so that the arrow keys move it. The theme looks for such code and outputs once,
// while the solutions are still folded; here it is done for those that have just been opened, and for tables with a number,
// which the theme does not look for.
function letScrollersTakeFocus(opened) {
  for (const part of opened.querySelectorAll("pre, .cell_output .output")) {
    part.tabIndex = part.scrollWidth > part.clientWidth ? 0 : -1;
  }
}
for (const event of ["load", "resize"]) window.addEventListener(event, () => letScrollersTakeFocus(document));
document.addEventListener("toggle", (event) => letScrollersTakeFocus(event.target), true); // of <details>
document.addEventListener("click", (event) => {
  const admonition = event.target.closest?.(".toggle");
  if (admonition) letScrollersTakeFocus(admonition);
});

// In the list of pages, the arrow that shows what lies below a chapter is an icon: it gets a name.
document.addEventListener("DOMContentLoaded", () => {
  for (const arrow of document.querySelectorAll(".has-children > details > summary")) {
    arrow.setAttribute("aria-label", `Pages below ${arrow.closest("li").querySelector("a").textContent.trim()}`);
  }
});

// Paper is white: a dark page is printed with the colours of a light one.
window.addEventListener("beforeprint", () => {
  const page = document.documentElement;
  const theme = page.dataset.theme;
  page.dataset.theme = "light";
  window.addEventListener("afterprint", () => { page.dataset.theme = theme; }, { once: true });
});
