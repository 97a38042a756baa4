// One retriever's answer: clues as they grow, then passages with the clues marked.

import * as api from "./api.js";
import { counted, element, percent } from "./dom.js";

const SHOWN_CLUES = 10;
const EXCERPT = 520; // characters of a passage that are shown at first

export class Answer {
  // tools: openTree(tokens), remove(id) or null where nothing can be deleted, heat(parts) over the photo
  constructor(name, tools, note = "") {
    this.tools = tools;
    this.time = element("small");
    this.clues = element("ol", { className: "clues" });
    this.written = element("div", { className: "written" }, element("h4", { textContent: "clues the model writes" }), this.clues);
    this.found = element("ol", { className: "found" });
    this.inside = element("div", { className: "inside" }, this.written, this.found);
    const header = element("header", {}, element("h3", { textContent: name }), this.time);
    this.element = element("article", { className: "answer", "aria-label": `answer of ${name}`, "aria-busy": "true" }, header, this.inside);
    if (note) this.found.append(element("li", { className: "note none", textContent: note }));
    this.note = note;
    this.name = name;
    this.written.hidden = true;
    this.inside.classList.add("plain");
  }

  grow(clues) {
    this.showClues(clues, false);
    this.time.textContent = "writing …";
  }

  showClues(clues, done) {
    this.written.hidden = !clues.length;
    this.inside.classList.toggle("plain", !clues.length);
    const best = [...clues].sort((one, other) => other.log_prob - one.log_prob).slice(0, SHOWN_CLUES);
    const most = Math.max(...best.map((clue) => Math.exp(clue.log_prob)), 1e-30);
    this.clues.replaceChildren(
      ...best.map((clue) => {
        const share = Math.exp(clue.log_prob);
        const bar = element("i");
        bar.style.width = `${(100 * share) / most}%`;
        const button = element("button", { type: "button", disabled: !done, title: done ? `${counted(clue.occurrences, "occurrence")}; open in the clue tree` : "" },
          bar, element("span", { textContent: clue.text }), element("b", { textContent: percent(share) }));
        if (done) button.addEventListener("click", () => this.tools.openTree(clue.tokens));
        return element("li", { className: done || clue.finished ? "" : "growing" }, button);
      }),
    );
  }

  finish(ranking) {
    this.showClues(ranking.clues ?? [], true);
    this.element.setAttribute("aria-busy", "false");
    const { wait, retrieve } = ranking.seconds;
    this.time.textContent = `${(1000 * (wait + retrieve)).toFixed(0)} ms${ranking.together > 1 ? `, ${ranking.together} questions together` : ""}`;
    const rows = ranking.hits.map((hit, number) => passage(hit, number + 1, this.name, this.tools.remove, this.tools.heat));
    if (this.note) rows.unshift(element("li", { className: "note none", textContent: this.note }));
    if (!ranking.hits.length) rows.push(element("li", { className: "none", textContent: "no passage was found" }));
    this.found.replaceChildren(...rows);
  }

  fail(sentence) {
    this.element.setAttribute("aria-busy", "false");
    this.time.textContent = "";
    this.found.replaceChildren(element("li", { className: "none", textContent: sentence }));
  }
}

export function passage(hit, rank, retriever, remove, heat) {
  const text = element("p");
  if (hit.title) text.append(element("strong", { textContent: hit.title }), "\n");
  text.append(...marked(hit.text, hit.matches?.length ? hit.matches : hit.marks ?? []));
  const inside = [text];
  if (hit.image) inside.unshift(element("img", { src: api.imageOf(hit.image), alt: `picture of ${hit.doc_id}`, loading: "lazy" }));
  const facts = hit.score === undefined ? hit.doc_id : `${hit.doc_id} · ${hit.score.toFixed(3)} · ${retriever}`;
  const footer = element("footer", {}, element("code", { textContent: facts }));
  if (heat && hit.heat?.length) {
    const button = element("button", { type: "button", textContent: "heat", "aria-pressed": "false", "aria-label": `what of the photo matches ${hit.doc_id}` });
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") === "false";
      for (const other of document.querySelectorAll("footer button[aria-pressed=true]")) other.setAttribute("aria-pressed", "false");
      button.setAttribute("aria-pressed", String(on));
      heat(on ? hit.heat : []);
    });
    footer.append(button);
  }
  if (remove) {
    const button = element("button", { type: "button", textContent: "delete", "aria-label": `delete ${hit.doc_id}` });
    button.addEventListener("click", () => remove(hit.doc_id));
    footer.append(button);
  }
  const row = element("li", { className: "doc" });
  if (rank) row.append(element("div", { className: "rank", textContent: String(rank) }));
  row.append(element("div", {}, ...inside), footer);
  return row;
}

// The text as nodes, its marks in <mark>, darker by their weight where they have one; a long one around its first mark, with a button
// for all of it. Offsets count code points.
function marked(text, marks) {
  const characters = Array.from(text);
  const nodes = (start, stop) => {
    const made = [];
    let at = start;
    for (const [low, high, weight] of marks) {
      const [a, b] = [Math.max(low, start), Math.min(high, stop)];
      if (a >= b) continue;
      const mark = element("mark", { textContent: characters.slice(a, b).join("") });
      if (weight !== undefined) mark.style.setProperty("--weight", weight);
      made.push(characters.slice(at, a).join(""), mark);
      at = b;
    }
    return [...made, characters.slice(at, stop).join("")];
  };
  if (characters.length <= 1.3 * EXCERPT) return nodes(0, characters.length);
  const start = Math.max(0, (marks[0]?.[0] ?? 0) - Math.round(EXCERPT / 3));
  const stop = Math.min(characters.length, Math.max(start + EXCERPT, marks[0]?.[1] ?? 0));
  const more = element("button", { type: "button", className: "more", textContent: "show all" });
  const shown = element("span", {}, start ? "… " : "", ...nodes(start, stop), stop < characters.length ? " … " : " ", more);
  more.addEventListener("click", () => shown.replaceWith(...nodes(0, characters.length)));
  return [shown];
}
