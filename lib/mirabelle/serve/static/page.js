"use strict";
// Asks this server, and no other, about the pictures that it is given. Whatever comes back is put in as text.
(() => {
  const MOST_CARDS = 20;
  const at = (id) => document.getElementById(id);
  const status = at("status"), answers = at("answers"), tokenField = at("token");
  let token = "", waiting = [];

  function say(text, isWrong = false) {
    status.textContent = text;
    status.classList.toggle("wrong", isWrong);
  }

  async function ask(path, file) {
    const headers = {"Content-Type": /^image\//.test(file.type) ? file.type : "application/octet-stream"};
    if (token) headers.Authorization = `Bearer ${token}`;
    let answer;
    try {
      answer = await fetch(path, {method: "POST", headers, body: file});
    } catch {
      throw {detail: "The server cannot be reached; try again."};
    }
    const told = await answer.json().catch(() => ({detail: "The answer could not be read; try again."}));
    if (!answer.ok) throw told;
    return told;
  }

  async function askAbout(file) {
    const card = at("card").content.firstElementChild.cloneNode(true);
    const shown = card.querySelector(".shown");
    shown.src = URL.createObjectURL(file);
    card.querySelector("figcaption").textContent = file.name || "pasted picture";
    try {
      const told = await ask("/v1/predict?top=5&explain=true", file);
      show(card, told.pictures[0], file.name);
      at("model").textContent = `Answered by ${told.model.name} (${told.model.id})`;
    } catch (problem) {
      if (problem.status === 401) {
        waiting.push(file);
        at("locked").hidden = false;
        tokenField.focus();
        say(token ? "The server does not know this token." : "The server asks for a token.", true);
        return;
      }
      if (problem instanceof Error) throw problem;
      refuse(card, problem);
    }
    answers.prepend(card);
    while (answers.children.length > MOST_CARDS) {
      URL.revokeObjectURL(answers.lastElementChild.querySelector(".shown").src);
      answers.lastElementChild.remove();
    }
    if (!card.classList.contains("refused")) await showNeighbours(card, file);
  }

  function show(card, told, name) {
    const percent = (share) => `${(100 * share).toFixed(1)} %`;
    const said = told.given ?? "Not sure";
    card.querySelector("h2").textContent = said;
    card.querySelector(".unsure").hidden = told.sure;
    card.querySelector(".unsure").textContent = `Not sure that it is ${told.label}: below the threshold that was set.`;
    if (told.coarse) {
      card.querySelector(".coarse").hidden = false;
      card.querySelector(".coarse").textContent = `${told.coarse.label}, ${percent(told.coarse.probability)}`;
    }
    const rows = card.querySelector("tbody");
    for (const {label, probability} of told.probabilities) {
      const row = rows.insertRow(), heading = document.createElement("th"), meter = document.createElement("meter");
      heading.scope = "row";
      heading.textContent = label;
      meter.value = probability;
      meter.setAttribute("aria-hidden", "true");
      row.append(heading);
      row.insertCell().append(meter);
      row.insertCell().textContent = percent(probability);
    }
    const {decode, wait, network} = told.ms;
    card.querySelector(".times").textContent =
      `${told.width_px} × ${told.height_px} px; decoded in ${decode.toFixed(1)} ms, waited ${wait.toFixed(1)} ms, network ${network.toFixed(1)} ms`;
    card.querySelector(".shown").alt = `${name || "The picture"}: ${said}`;
    if (told.explanation) {
      const heat = card.querySelector(".heat"), look = card.querySelector(".look");
      heat.src = told.explanation;
      heat.alt = "Bright where the network looked most";
      look.hidden = false;
      look.querySelector("input").addEventListener("change", (event) => { heat.hidden = !event.target.checked; });
    }
    say(told.sure ? `${said}, ${percent(told.probability)}` : said);
  }

  function refuse(card, problem) {
    card.classList.add("refused");
    card.querySelector("h2").textContent = problem.detail || "Something went wrong.";
    for (const part of ["table", ".times"]) card.querySelector(part).remove();
    const shown = card.querySelector(".shown");
    shown.alt = "";
    shown.addEventListener("error", () => { shown.parentElement.hidden = true; });
    if (shown.complete && !shown.naturalWidth) shown.parentElement.hidden = true;
    say(`No answer: ${problem.detail || "something went wrong."}`, true);
  }

  async function showNeighbours(card, file) {
    let told;
    try {
      told = await ask("/v1/neighbours?k=6", file);
    } catch {
      return;  // A bundle without an index has none, which is no one's mistake.
    }
    const near = card.querySelector(".near"), list = near.querySelector("ul");
    for (const {label, cosine, thumbnail} of told.pictures[0].neighbours ?? []) {
      const item = document.createElement("li"), small = document.createElement("small");
      if (thumbnail) {
        const image = document.createElement("img");
        image.src = thumbnail;
        image.alt = "";
        item.append(image);
      }
      small.textContent = `cosine ${cosine.toFixed(3)}`;
      item.append(label ?? "without a label", small);
      list.append(item);
    }
    near.hidden = !list.children.length;
  }

  async function askAboutAll(files) {
    const pictures = [...files];
    if (!pictures.length) return;
    answers.setAttribute("aria-busy", "true");
    for (const [place, file] of pictures.entries()) {
      say(pictures.length > 1 ? `Asking about picture ${place + 1} of ${pictures.length}…` : "Asking…");
      await askAbout(file);
    }
    answers.removeAttribute("aria-busy");
  }

  for (const id of ["files", "camera"]) {
    at(id).addEventListener("change", async (event) => {
      const chosen = [...event.target.files];
      event.target.value = "";
      await askAboutAll(chosen);
    });
  }
  at("asking").addEventListener("submit", (event) => { event.preventDefault(); at("unlock").click(); });
  at("unlock").addEventListener("click", async () => {
    token = tokenField.value.trim();
    const again = waiting;
    waiting = [];
    at("locked").hidden = true;
    await askAboutAll(again);
  });
  at("example").addEventListener("click", async () => {
    const answer = await fetch("/static/example.png");
    await askAboutAll([new File([await answer.blob()], "example.png", {type: "image/png"})]);
  });
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length) event.preventDefault();
    askAboutAll(files);
  });
  let depth = 0;
  const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  document.addEventListener("dragenter", (event) => { if (hasFiles(event)) { depth += 1; at("drop").hidden = false; } });
  document.addEventListener("dragleave", (event) => { if (hasFiles(event) && --depth <= 0) { depth = 0; at("drop").hidden = true; } });
  document.addEventListener("dragover", (event) => { if (hasFiles(event)) event.preventDefault(); });
  document.addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    depth = 0;
    at("drop").hidden = true;
    askAboutAll(event.dataTransfer.files);
  });
  document.documentElement.dataset.ready = "true";
})();
