// What a browser finds on a loaded page. Each rule returns complaints, each naming the element that it is about.
window.rules = (() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const shown = (element) => element.checkVisibility({ visibilityProperty: true }) && element.getClientRects().length > 0;

  // a short way to say which element: its tag, id, classes, and what it shows
  function name(element) {
    const id = element.id ? "#" + element.id : "";
    const classes = typeof element.className === "string" && element.className ? "." + element.className.trim().split(/\s+/).slice(0, 2).join(".") : "";
    const says = (element.getAttribute("aria-label") || element.getAttribute("src") || element.textContent || "").trim().replace(/\s+/g, " ");
    return `${element.tagName.toLowerCase()}${id || classes} "${says.slice(0, 50)}"`;
  }

  // every picture is fetched now, also those further down; nothing moves any more
  async function settle() {
    const still = document.createElement("style");
    still.textContent = "*, *::before, *::after { transition: none !important; animation: none !important; }";
    document.head.append(still);
    for (const image of all("img")) image.loading = "eager";
    await Promise.all(all("img").map((image) => image.decode().catch(() => null)));
    await window.MathJax?.startup?.promise;
    await document.fonts.ready;
  }

  function head() {
    const found = [];
    const meta = (key) => (document.querySelector(`meta[name="${key}"], meta[property="${key}"]`)?.content || "").trim();
    if (!document.documentElement.lang) found.push("html has no lang");
    if (!document.title.trim()) found.push("no title");
    if (!meta("description")) found.push("no description");
    if (!document.querySelector('link[rel~="icon"]')) found.push("no favicon");
    const fields = all('input[type="search"], .search-button, .search-button-field').filter((e) => shown(e) && !e.closest(".bd-search-container"));
    if (fields.length > 1) found.push(`${fields.length} places to search: ${fields.map(name).join(", ")}`);
    return found;
  }

  function formulas() {
    const found = all(".math").filter((e) => !e.querySelector("mjx-container, .katex, svg")).map((e) => `not rendered: ${name(e)}`);
    found.push(...all("mjx-merror, [data-mjx-error], .katex-error").map((e) => `wrong TeX: ${name(e)}`));
    const texts = document.createTreeWalker(document.querySelector("article") || document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      const parent = texts.currentNode.parentElement;
      if (/\\[([]|\$\$/.test(texts.currentNode.data) && !parent.closest("pre, code, script, style, .math, mjx-container")) {
        found.push(`raw TeX: ${name(parent)}`);
      }
    }
    return found;
  }

  function pictures() {
    const found = [];
    for (const image of all("article img:not(.toggler)")) {
      const [width, height] = ["width", "height"].map((key) => Number(image.getAttribute(key)));
      if (!image.naturalWidth) found.push(`does not load: ${name(image)}`);
      else if (!image.alt.trim()) found.push(`no alt text: ${name(image)}`);
      else if (!(width > 0 && height > 0)) found.push(`no width and height: ${name(image)}`);
      else if (Math.abs((width / height) * (image.naturalHeight / image.naturalWidth) - 1) > 0.05) {
        found.push(`width and height of another shape: ${name(image)}`);
      }
    }
    return found;
  }

  // What can be used with a mouse. Of a group of radio buttons the keyboard enters one.
  const USABLE = 'a[href], button, input:not([type="hidden"]), select, textarea, summary, [role="button"], [onclick], .toggle-button';
  const usable = () => all(USABLE).filter((e) => shown(e) && !e.disabled && !(e.type === "radio" && !e.checked));

  const LOOK = ["outlineStyle", "outlineWidth", "outlineColor", "boxShadow", "borderColor", "backgroundColor", "textDecorationLine"];
  function look(element) {
    const style = getComputedStyle(element);
    // an outline that is not drawn may have any width and colour
    const outline = style.outlineStyle === "none" || parseFloat(style.outlineWidth) === 0;
    return LOOK.map((key) => (outline && key.startsWith("outline") ? "none" : style[key])).join(" | ");
  }

  // The walk itself is made by the Tab key: this notes where it passes, and whether a reader sees it there.
  let walk = null;
  function startWalk() {
    document.activeElement?.blur();
    window.getSelection()?.removeAllRanges();
    const candidates = usable();
    walk = { candidates, before: new Map(candidates.map((e) => [e, look(e)])), passed: new Set(), unseen: new Set(), first: null, ended: false };
    document.addEventListener("focusin", (event) => {
      const element = event.target;
      walk.first ??= element;
      walk.ended ||= element === walk.first && walk.passed.size > 1;
      walk.passed.add(element);
      if (walk.before.has(element) && look(element) === walk.before.get(element)) walk.unseen.add(element);
    });
  }
  const walkEnded = () => walk.ended;
  function endWalk() {
    const missed = walk.candidates.filter((e) => shown(e) && !walk.passed.has(e));
    return [
      ...missed.map((e) => `Tab does not reach ${name(e)}`),
      ...[...walk.unseen].map((e) => `the focus is not seen on ${name(e)}`),
    ];
  }

  // What comes again and again, in one look, costs a minute a page: a few of each are kept. What stays looks as before.
  function thin() {
    const seen = new Map();
    const again = (key, most) => seen.set(key, (seen.get(key) || 0) + 1).get(key) > most;
    for (const e of all(".highlight pre span")) {
      if (!e.children.length && again(`${e.className} ${e.closest(".highlight").parentElement.className}`, 2)) e.replaceWith(e.textContent);
    }
    for (const e of all("mjx-container:not([display])")) if (again("formula", 5)) e.replaceWith("x");
    for (const e of all(".copybtn, .toc-entry")) if (again(e.className, 20)) e.remove();
    for (const e of all("dl.py")) if (again(e.className, 10)) e.remove();
    for (const e of all(".indextable li, .indextable tr")) if (again(e.tagName, 30)) e.remove();
    for (const e of all(".cell_output tbody > tr:nth-child(n + 4)")) e.remove();
    document.body.normalize(); // or each former piece of code is measured alone
  }

  // Everything that folds: details, and the admonitions that become buttons.
  const folds = () => all("details, .toggle.admonition").filter((e) => !e.parentElement.closest("details, .toggle.admonition"));
  const folded = (e) => (e.tagName === "DETAILS" ? !e.open : e.classList.contains("toggle-hidden"));
  const handle = (e) => (e.tagName === "DETAILS" ? e.querySelector("summary") : e.querySelector(".toggle-button"));

  function unfold() {
    for (const e of all("details")) e.open = true;
    for (const e of all(".toggle-hidden.admonition")) handle(e)?.click();
  }

  // A reader without a mouse opens those that are not open: each handle takes the focus, and Enter (pressed by the caller) shows the inside.
  function focusHandle(index) {
    const button = folded(folds()[index]) && handle(folds()[index]);
    if (button) button.focus();
    return Boolean(button) && document.activeElement === button;
  }
  function stillFolded() {
    return folds().filter((e) => folded(e) || !shown(e.lastElementChild)).map((e) => `Enter does not unfold ${name(e)}`);
  }

  function solutions() {
    const found = [];
    for (const e of all("div.solution")) {
      if (e.classList.contains("dropdown") && !handle(e)) found.push(`does not fold: ${name(e)}`);
      else if (e.classList.contains("dropdown") && !folded(e)) found.push(`stands open: ${name(e)}`);
    }
    return found;
  }

  function sideways() {
    const width = document.documentElement.clientWidth;
    if (document.scrollingElement.scrollWidth <= width) return [];
    const scrolls = (e) => e && e !== document.body && (getComputedStyle(e).overflowX !== "visible" || scrolls(e.parentElement));
    const wide = all("body *").filter((e) => shown(e) && e.getBoundingClientRect().right > width + 1 && !scrolls(e.parentElement));
    const least = wide.filter((e) => !wide.some((other) => other !== e && e.contains(other)));
    return [`${document.scrollingElement.scrollWidth} px wide at ${width}: ${least.slice(0, 3).map(name).join(", ")}`];
  }

  // What is printed (the caller shows the page as on paper) and is no part of the article, or a box whose inside is folded.
  function onPaper() {
    const words = (e) => [...e.childNodes].some((part) => part.nodeType === Node.TEXT_NODE && part.data.trim());
    const beside = all("body :not(script, style)").filter((e) => !e.closest("article") && words(e) && shown(e));
    return [...beside, ...folds().filter((e) => folded(e) && shown(e))].map(name);
  }

  // -- pictures on a dark page ---------------------------------------------------------------------------------------

  const channel = Array.from({ length: 256 }, (_, v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  const luminance = (data, i) => 0.2126 * channel[data[i]] + 0.7152 * channel[data[i + 1]] + 0.0722 * channel[data[i + 2]];
  const contrast = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);

  // the picture as the page shows it: upon the grounds of everything around it, through its own filter
  function painted(image) {
    const scale = Math.min(1, 700 / image.naturalWidth);
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(image.naturalWidth * scale));
    canvas.height = Math.max(1, Math.round(image.naturalHeight * scale));
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.imageSmoothingEnabled = false; // thin ink keeps its colour
    const grounds = ["#fff"];
    for (let e = image; e; e = e.parentElement) grounds.splice(1, 0, getComputedStyle(e).backgroundColor);
    for (const ground of grounds) {
      context.fillStyle = ground;
      context.fillRect(0, 0, canvas.width, canvas.height);
    }
    context.filter = getComputedStyle(image).filter;
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    return context.getImageData(0, 0, canvas.width, canvas.height).data;
  }
  const ground = (data) => luminance(data, 0); // of the corner: outside of what is drawn

  let light = null;
  function rememberPictures() {
    light = new Map(all("img").filter((e) => shown(e) && e.naturalWidth).map((e) => [e, painted(e)]));
  }
  // What is read on a light page (contrast of text, 4.5) is still seen on a dark one (contrast of graphics, 3).
  function darkPictures() {
    const found = [];
    for (const [image, before] of light) {
      const after = painted(image);
      const [was, is] = [ground(before), ground(after)];
      let [ink, lost] = [0, 0];
      for (let i = 0; i < before.length; i += 4) {
        if (contrast(luminance(before, i), was) < 4.5) continue;
        ink += 1;
        if (contrast(luminance(after, i), is) < 3) lost += 1;
      }
      if (lost > 0.02 * ink) found.push(`${Math.round((100 * lost) / ink)} % of the ink is lost: ${name(image)}`);
    }
    return found;
  }

  return {
    settle, head, formulas, pictures, solutions, thin, startWalk, walkEnded, endWalk, folds, focusHandle, stillFolded, unfold, sideways, onPaper,
    rememberPictures, darkPictures,
  };
})();
