"use strict";
/* The map: which labels are lit, what the pointer is at, zoom, points or pictures. */
(() => {
  const host = document.getElementById("chart-map");
  if (!host) return;
  const { read, element, showCard, hideCard, prepare } = mirabelle;
  const { images, paths, labels } = read("pictures");
  const state = read("map-state");
  const one = (selector) => document.querySelector(selector);
  const all = (selector) => [...document.querySelectorAll(selector)];

  const names = all(".labels bdi").map((name) => name.textContent); // by index, for the key is in their order
  let view = null;
  let points = [];
  let centres = []; // where each label's name goes
  let home = null; // the domains before any zoom
  let hovered = -1;
  const chosen = { pictures: false, part: null };
  const picks = [...state.lit];
  const slotOf = new Map(); // label -> colour, for as long as it is picked

  prepare["chart-map"] = (spec, chart) => {
    points = spec.datasets.points.map((point) => (images[point.i] ? { ...point, image: images[point.i] } : { ...point }));
    centres = spec.datasets.centres;
    const height = Math.round(Math.min(560, Math.max(330, chart.clientWidth * 0.78)));
    return { ...structuredClone({ ...spec, datasets: {} }), height, datasets: { points, centres: structuredClone(centres) } };
  };
  /* Names of lit labels stand at the middle of their points; where two would overlap one moves, or stays away. */
  const place = (list) => {
    const [across, down] = [view.scale("x"), view.scale("y")];
    const taken = [];
    const nudges = list.map(() => null);
    for (const centre of centres) {
      if (list[centre.l] < 0) continue;
      const [x, y, wide] = [across(centre.x), down(centre.y), Math.min(170, 7.2 * centre.label.length + 6)];
      if (x < 0 || y < 0 || x > view.width() || y > view.height()) continue;
      const left = x < 0.2 * view.width() ? x : x > 0.8 * view.width() ? x - wide : x - wide / 2;
      const free = (dy) => y + dy > 8 && y + dy < view.height() - 8 && taken.every((box) => left > box.right || left + wide < box.left || Math.abs(y + dy - box.y) > 15);
      const dy = [0, -16, 16, -32, 32, -48, 48].find(free);
      if (dy === undefined) continue;
      nudges[centre.l] = dy;
      taken.push({ left, right: left + wide, y: y + dy });
    }
    return nudges;
  };
  const light = (list) => {
    if (view) view.signal("slots", list).signal("nudges", place(list)).signal("faint", list.some((slot) => slot >= 0)).runAsync();
  };
  const set = (name, value) => { if (view) view.signal(name, value).runAsync(); };

  /* Colours: with few labels each has its own; with many a label gets the first free one when it is picked. */
  const colourOf = (label) => {
    if (state.few) return label % state.slots;
    if (slotOf.has(label)) return slotOf.get(label);
    const taken = new Set(slotOf.values());
    return Array.from({ length: state.slots }, (_, i) => i).find((slot) => !taken.has(slot)) ?? 0;
  };
  const slots = (preview) => {
    const list = Array(state.labels).fill(-1);
    let lit = picks;
    if (preview !== undefined) lit = [preview];
    else if (state.few && !picks.length) lit = list.map((_, label) => label);
    lit.forEach((label) => { list[label] = colourOf(label); });
    return list;
  };
  const refresh = () => {
    const list = slots();
    for (const button of all(".labels [data-label]")) {
      const label = Number(button.dataset.label);
      button.setAttribute("aria-pressed", String(picks.includes(label)));
      button.classList.toggle("lit", list[label] >= 0);
      button.style.setProperty("--swatch", list[label] >= 0 ? `var(--slot-${list[label]})` : "var(--unlit)");
    }
    const chips = picks.map((label) => {
      const chip = element("button", names[label]);
      chip.type = "button";
      chip.title = "Put out";
      chip.style.setProperty("--swatch", `var(--slot-${list[label]})`);
      chip.addEventListener("click", () => toggle(label));
      const item = element("li");
      item.append(chip);
      return item;
    });
    one("#key-lit")?.replaceChildren(...chips);
    const clear = one("#key-clear");
    if (clear) clear.hidden = !picks.length;
    light(list);
  };
  const toggle = (label) => {
    const at = picks.indexOf(label);
    if (at >= 0) { picks.splice(at, 1); slotOf.delete(label); } else {
      if (!state.few && picks.length >= state.slots) slotOf.delete(picks.shift());
      slotOf.set(label, colourOf(label));
      picks.push(label);
    }
    refresh();
  };
  picks.forEach((label) => slotOf.set(label, colourOf(label)));

  for (const button of all(".labels [data-label]")) {
    const label = Number(button.dataset.label);
    const image = images[Number(button.dataset.row)];
    if (image) {
      const picture = element("img");
      picture.src = image;
      picture.alt = "";
      button.querySelector(".swatch").after(picture);
    }
    button.addEventListener("click", () => toggle(label));
    button.addEventListener("pointerenter", (event) => { if (event.pointerType === "mouse") light(slots(label)); });
    button.addEventListener("pointerleave", () => light(slots()));
  }
  one("#key-clear")?.addEventListener("click", () => { picks.length = 0; slotOf.clear(); refresh(); });
  one("#key-search")?.addEventListener("input", (event) => {
    const wanted = event.target.value.trim().toLocaleLowerCase();
    let found = 0;
    for (const item of all(".labels li")) {
      item.hidden = !item.querySelector("bdi").textContent.toLocaleLowerCase().includes(wanted);
      found += !item.hidden;
    }
    one("#key-none").hidden = found > 0;
  });

  /* Switches above the map. */
  const press = (group, button) => all(group).forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
  all("[data-draw]").forEach((button) => button.addEventListener("click", () => {
    chosen.pictures = button.dataset.draw === "pictures";
    press("[data-draw]", button);
    set("pictures", chosen.pictures);
  }));
  all("[data-part]").forEach((button) => button.addEventListener("click", () => {
    chosen.part = button.dataset.part || null;
    press("[data-part]", button);
    set("part", chosen.part);
  }));
  const zoom = (factor) => {
    for (const axis of ["x", "y"]) {
      const [from, to] = view.scale(axis).domain();
      const [middle, half] = [(from + to) / 2, ((to - from) / 2) * factor];
      view.signal("window_" + axis, factor ? [middle - half, middle + half] : null);
    }
    view.runAsync();
  };
  const factors = { in: 1 / 1.6, out: 1.6, reset: 0 };
  all("[data-zoom]").forEach((button) => button.addEventListener("click", () => zoom(factors[button.dataset.zoom])));
  // Vega tells of a zoom before its scales follow, so this waits for the next frame.
  let frame = 0;
  const zoomed = () => { cancelAnimationFrame(frame); frame = requestAnimationFrame(follow); };
  const follow = () => {
    const [from, to] = view.scale("x").domain();
    const times = (home[1] - home[0]) / (to - from);
    // Until it is zoomed, a finger on the map scrolls the page.
    host.classList.toggle("zoomed", times > 1.01);
    light(slots());
    view.signal("tile", Math.round(Math.min(72, 26 * Math.sqrt(Math.max(times, 1))))).runAsync();
  };

  /* The point nearest to the pointer, if it is near enough to be meant. */
  const nearest = (event) => {
    const box = view.container().querySelector("canvas").getBoundingClientRect();
    const [left, top] = view.origin();
    const [x, y] = [event.clientX - box.left - left, event.clientY - box.top - top];
    if (x < 0 || y < 0 || x > view.width() || y > view.height()) return -1;
    const [across, down] = [view.scale("x"), view.scale("y")];
    let [best, reach] = [-1, event.pointerType === "touch" ? 28 : chosen.pictures ? view.signal("tile") / 2 : 14];
    for (const point of points) {
      if (chosen.part !== null && point.s !== chosen.part) continue;
      const distance = Math.hypot(across(point.x) - x, down(point.y) - y);
      if (distance <= reach) { best = point.i; reach = distance; }
    }
    return best;
  };
  const pointAt = (event) => {
    const found = nearest(event);
    if (found !== hovered) { hovered = found; set("hovered", found); }
    if (found < 0) { hideCard(); return; }
    const part = points[found].s;
    showCard(event, { image: images[found], title: labels[found] ?? "no label", lines: [paths[found], ...(part === null ? [] : [["split", part]])] });
  };
  const leave = () => { hovered = -1; set("hovered", -1); hideCard(); };

  // Vega learns what lies under the pointer from its moves, and a finger makes none before it lands: so a zoomed map
  // can be dragged by a finger too. One that is not zoomed lets the finger scroll the page.
  host.addEventListener("pointerdown", (event) => {
    if (event.pointerType !== "touch" || !host.classList.contains("zoomed")) return;
    const { clientX, clientY, pointerId } = event;
    event.target.dispatchEvent(new PointerEvent("pointermove", { clientX, clientY, pointerId, pointerType: "touch" }));
  }, { capture: true });
  let pressed = null;
  host.addEventListener("pointerdown", (event) => { pressed = event; });
  host.addEventListener("pointermove", (event) => { if (view && event.pointerType === "mouse") { if (event.buttons) hideCard(); else pointAt(event); } });
  host.addEventListener("pointerleave", (event) => { if (view && event.pointerType === "mouse") leave(); });
  host.addEventListener("click", (event) => {
    if (!view || !pressed || Math.hypot(event.clientX - pressed.clientX, event.clientY - pressed.clientY) > 5) return;
    pointAt(event);
    const label = hovered < 0 ? -1 : points[hovered].l;
    if (pressed.pointerType === "mouse" && label >= 0) toggle(label);
  });

  host.addEventListener("drawn", (event) => {
    view = event.detail;
    home = view.scale("x").domain();
    Object.entries(chosen).forEach(([name, value]) => view.signal(name, value));
    for (const axis of ["x", "y"]) view.addSignalListener("window_" + axis, zoomed);
    view.addSignalListener("width", () => light(slots()));
    refresh();
  });
})();
