// The clue tree: what the corpus lets follow, token by token, with counts and the documents that are left.

import * as api from "./api.js";
import { $, counted, element } from "./dom.js";
import { passage } from "./answer.js";

const FEW = 3; // so many documents are shown themselves

export class Tree {
  constructor(onProblem) {
    this.tokens = [];
    this.steps = []; // what is shown of each token
    this.turn = 0;
    this.onProblem = onProblem;
    $("typed").addEventListener("input", () => this.refresh($("typed").value.trimStart()));
    $("typed").addEventListener("keydown", (event) => {
      if (event.key === "Enter") {
        event.preventDefault();
        this.type($("typed").value);
      } else if (event.key === "Backspace" && !$("typed").value && this.tokens.length) {
        this.back(this.tokens.length - 1);
      }
    });
  }

  // Walk to a clue by its tokens.
  async open(tokens) {
    const turn = ++this.turn;
    try {
      const steps = [];
      for (let length = 1; length <= tokens.length; length++) {
        const found = await api.following({ tokens: tokens.slice(0, length) });
        steps.push(found.text);
      }
      if (turn !== this.turn) return;
      this.tokens = [...tokens];
      this.steps = steps.map((text, at) => (at ? text.slice(steps[at - 1].length) : text).trim() || "·");
      await this.refresh();
      $("tree-title").scrollIntoView({ behavior: "smooth", block: "start" });
    } catch (error) {
      this.onProblem(error);
    }
  }

  // Enter: the first continuation that begins so, or else the typed text as a new beginning.
  async type(text) {
    if (!text.trim()) return;
    try {
      const found = await api.following({ tokens: this.tokens, starting: text.trim() });
      const exact = found.next.find((one) => one.text.trim() === text.trim()) ?? found.next[0];
      if (exact) return this.go(exact);
      const whole = await api.following({ prefix: text });
      $("typed").value = "";
      await this.open(whole.tokens);
    } catch (error) {
      this.onProblem(error);
    }
  }

  async go(one) {
    this.tokens = [...this.tokens, one.token];
    this.steps = [...this.steps, one.text.trim() || "·"];
    $("typed").value = "";
    await this.refresh();
    $("typed").focus({ preventScroll: true });
  }

  async back(length) {
    this.tokens = this.tokens.slice(0, length);
    this.steps = this.steps.slice(0, length);
    await this.refresh();
  }

  async refresh(starting = "") {
    const turn = ++this.turn;
    try {
      const found = await api.following({ tokens: this.tokens, starting });
      const few = found.documents !== null && found.documents <= FEW ? await Promise.all(found.doc_ids.map(api.document_)) : [];
      if (turn === this.turn) this.show(found, few);
    } catch (error) {
      if (error.status === 404) $("tree").closest("section").hidden = true;
      else this.onProblem(error);
    }
  }

  show(found, documents) {
    const crumb = (text, length, name) => {
      const button = element("button", { type: "button", textContent: text, className: length ? "" : "root", "aria-label": name });
      button.addEventListener("click", () => this.back(length));
      return button;
    };
    $("path").replaceChildren(crumb("start", 0, "back to the start"), ...this.steps.map((text, at) => crumb(text, at + 1, `back to ${text}`)));
    const left = found.documents === null ? "very many documents" : counted(found.documents, "document");
    $("left").textContent = this.tokens.length
      ? `“${found.text}” stands in ${left}, ${counted(found.count, "time")}${found.may_end ? "; a clue may end here" : ""}. ${counted(found.continuations, "continuation")}.`
      : `${counted(found.documents, "document")}, ${counted(found.continuations, "possible beginning")}.`;
    const most = Math.max(...found.next.map((one) => one.count), 1);
    $("next").replaceChildren(
      ...found.next.map((one) => {
        const bar = element("i");
        bar.style.width = `${(100 * one.count) / most}%`;
        const documents = one.documents === null ? "very many" : one.documents.toLocaleString("en");
        const button = element("button", { type: "button", "aria-label": `${one.text.trim() || "space"}: ${counted(one.count, "time")} in ${documents} documents` },
          bar, element("span", { textContent: one.text.trim() ? one.text : "␣" }), element("small", { textContent: `${one.count.toLocaleString("en")}× in ${documents}` }));
        button.addEventListener("click", () => this.go(one));
        return element("li", {}, button);
      }),
    );
    const marks = (text) => {
      const at = found.text ? Array.from(text.slice(0, Math.max(text.indexOf(found.text), 0))).length : 0;
      return found.text && text.includes(found.text) ? [[at, at + Array.from(found.text).length]] : [];
    };
    $("tree-documents").replaceChildren(...documents.map((one) => passage({ ...one, marks: marks(one.text) }, 0, "", null)));
  }
}
