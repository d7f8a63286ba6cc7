"use strict";
/* Draws the charts in the page's own colours, shows a card for the mark under the pointer, sorts tables, follows the
   scroll. Text from data reaches the document as textContent only. */
const mirabelle = (() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const element = (name, text, className) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  };

  /* The charts name styles; here they get the colours that page.css has for light or dark. */
  const theme = () => {
    const narrow = document.documentElement.clientWidth < 640;
    const css = getComputedStyle(document.documentElement);
    const colour = (name) => css.getPropertyValue("--" + name).trim();
    const ramp = (name) => [0, 1, 2].map((step) => colour(name + "-" + step));
    const font = getComputedStyle(document.body).fontFamily;
    const [ink, soft, line, paper] = ["ink", "soft", "line", "paper"].map(colour);
    const guide = { labelColor: soft, titleColor: soft, labelFontSize: 12, titleFontSize: 12, titleFontWeight: 400 };
    return {
      background: "transparent",
      font,
      padding: 4,
      view: { stroke: null },
      axis: { ...guide, gridColor: line, domainColor: line, tickColor: line, labelLimit: 150, labelPadding: 6, titlePadding: 10 },
      axisX: { labelOverlap: true },
      legend: { ...guide, gradientLength: narrow ? 90 : 130, gradientThickness: 9, gradientStrokeColor: "transparent", offset: 16, layout: { bottom: { margin: 28, anchor: "start", direction: "horizontal" } } },
      range: { category: Array.from({ length: 12 }, (_, i) => colour("slot-" + i)), ramp: ramp("right"), heatmap: ramp("wrong") },
      style: {
        "length": { color: colour("accent-fill") },
        "length-second": { color: colour("second") },
        "length-alarm": { color: colour("wrong-1") },
        "value": { color: ink, align: "left", baseline: "middle", dx: 7, fontSize: 12.5 },
        "kept": { color: colour("accent-fill"), fillOpacity: 0.16 },
        "kept-rule": { color: colour("accent-fill"), strokeWidth: 1.5 },
        "kept-text": { color: colour("accent"), fontWeight: 600, fontSize: 13 },
        "kept-dot": { filled: true, color: colour("accent-fill"), stroke: paper, strokeWidth: 2, size: 110, opacity: 1 },
        "target": { color: soft, strokeDash: [5, 4], strokeWidth: 1 },
        "target-text": { color: soft, align: "left", baseline: "bottom", dy: -4, fontSize: 12 },
        "curve": { color: ink, strokeWidth: 2 },
        "curve-second": { color: colour("accent-fill"), strokeWidth: 2 },
        "dot": { filled: true, color: ink, size: 60 },
        "square": { stroke: paper, strokeWidth: 1 },
        "count-strong": { color: colour("on-strong"), fontSize: 11 },
        "count-weak": { color: ink, fontSize: 11 },
        "unlit": { filled: true, color: colour("unlit"), opacity: 0.6, size: 24 },
        "lit": { filled: true, opacity: 0.88, size: 52, stroke: paper, strokeWidth: 0.7 },
        "frame": { filled: true, opacity: 1 },
        "hovered": { filled: false, color: ink, strokeWidth: 2, size: 210, opacity: 1 },
        "halo": { color: paper, stroke: paper, strokeWidth: 4, strokeJoin: "round", fontWeight: 600, fontSize: 12, limit: 170 },
        "name": { color: ink, fontWeight: 600, fontSize: 12, limit: 170 },
      },
    };
  };

  const card = document.getElementById("card");
  const hideCard = () => { card.hidden = true; };
  /* content: {image, title, lines: [[name, value] or text, ...]} */
  const showCard = (event, content) => {
    card.replaceChildren();
    if (content.image) {
      const image = element("img");
      image.src = content.image;
      image.alt = content.title || "";
      card.append(image);
    }
    const words = element("div");
    if (content.title) words.append(element("strong", content.title));
    for (const line of content.lines) {
      if (typeof line === "string") { words.append(element("p", line)); continue; }
      const row = element("p");
      row.append(element("span", line[0]), element("b", line[1]));
      words.append(row);
    }
    card.append(words);
    card.hidden = false;
    const { width, height } = card.getBoundingClientRect();
    const [wide, high] = [document.documentElement.clientWidth, window.innerHeight];
    const left = event.clientX + 16 + width > wide - 8 ? event.clientX - 16 - width : event.clientX + 16;
    const below = event.clientY + 18 + height < high - 8;
    card.style.left = Math.max(8, Math.min(left, wide - width - 8)) + "px";
    card.style.top = Math.max(8, below ? event.clientY + 18 : event.clientY - 18 - height) + "px";
  };
  const onTooltip = (_handler, event, _item, value) => {
    if (!value || typeof value !== "object") { hideCard(); return; }
    showCard(event, { lines: Object.entries(value).map(([name, text]) => [name, String(text)]) });
  };
  document.addEventListener("scroll", hideCard, { passive: true, capture: true });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hideCard(); });
  document.addEventListener("pointerdown", (event) => { if (!event.target.closest(".chart")) hideCard(); });

  const charts = read("charts");
  const prepare = {}; // by id: what else to do to a specification before it is drawn
  const drawn = {}; // by id: what vega-embed gave
  const draw = async () => {
    const config = theme();
    for (const [id, spec] of Object.entries(charts)) {
      const host = document.getElementById(id);
      if (drawn[id]) drawn[id].finalize();
      try {
        drawn[id] = await vegaEmbed(host, prepare[id] ? prepare[id](spec, host) : structuredClone(spec), {
          mode: "vega-lite", renderer: id === "chart-map" ? "canvas" : "svg", config,
          actions: false, defaultStyle: false, ast: true, tooltip: onTooltip,
        });
      } catch (error) {
        host.replaceChildren(element("p", "This chart could not be drawn.", "absent"));
        console.error(id, error);
        continue;
      }
      const view = drawn[id].view;
      // A finger has no hover: a tap shows the card.
      view.addEventListener("click", (event, item) => { if (item && item.tooltip) onTooltip(null, event, item, item.tooltip); });
      host.dispatchEvent(new CustomEvent("drawn", { detail: view }));
    }
    document.documentElement.dataset.drawn = Object.keys(drawn).length;
  };
  document.addEventListener("DOMContentLoaded", () => {
    if (Object.keys(charts).length) draw();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  });

  /* Tables: a click on a heading sorts by it, a second one turns the order. */
  const valueOf = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
  };
  const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true }));
  for (const table of document.querySelectorAll("table.sortable")) {
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => heading.addEventListener("click", () => {
      const up = heading.getAttribute("aria-sort") !== "ascending";
      headings.forEach((other) => other.setAttribute("aria-sort", "none"));
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => (up ? 1 : -1) * compare(valueOf(a, column), valueOf(b, column)));
      table.tBodies[0].append(...rows);
    }));
  }

  /* The section being read is marked in the side list. */
  const links = new Map([...document.querySelectorAll(".side a")].map((link) => [link.hash.slice(1), link]));
  const follow = () => {
    const read_ = [...links.keys()].filter((id) => document.getElementById(id).getBoundingClientRect().top < window.innerHeight * 0.35);
    const current = read_.length ? read_[read_.length - 1] : "top";
    links.forEach((link, id) => (id === current ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current")));
  };
  document.addEventListener("scroll", follow, { passive: true });
  follow();

  return { read, element, showCard, hideCard, prepare, drawn };
})();
