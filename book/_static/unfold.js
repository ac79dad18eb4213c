// What scrolls sideways takes the focus, so that the arrow keys move it. The theme looks for it once, while the solutions
// are still folded: it looks again when one has been opened.
const lookAgain = () => window.dispatchEvent(new Event("resize"));
document.addEventListener("toggle", lookAgain, true); // of <details>
document.addEventListener("click", (event) => event.target.closest?.(".toggle") && lookAgain());
