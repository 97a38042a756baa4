// Adding and deleting passages, where the service has a collection. The key stays in this page's memory.

import * as api from "./api.js";
import { $, counted, say } from "./dom.js";

export class Notes {
  constructor(onWritten) {
    this.onWritten = onWritten;
    $("notes").addEventListener("submit", (event) => {
      event.preventDefault();
      this.add();
    });
    $("delete").addEventListener("click", () => this.remove($("note-id").value.trim()));
  }

  offer(writable) {
    $("notes").hidden = !writable;
    $("read-only").hidden = writable;
    this.writable = writable;
  }

  async add() {
    const document = { doc_id: $("note-id").value.trim(), text: $("note-text").value.trim() };
    if (!document.doc_id || !document.text) return say($("note-status"), "A passage needs an id and a text.", true);
    await this.write(() => api.addDocument($("key").value, document), `“${document.doc_id}” was added`);
  }

  async remove(id) {
    if (!id) return say($("note-status"), "Which passage? Write its id.", true);
    if (!$("key").value) {
      $("key").focus();
      return say($("note-status"), "Deleting needs the service's key.", true);
    }
    await this.write(() => api.deleteDocument($("key").value, id), `“${id}” was deleted`);
  }

  async write(work, done) {
    say($("note-status"), "writing …");
    try {
      const { documents } = await work();
      say($("note-status"), `${done}; the collection holds ${counted(documents, "passage")}.`);
      this.onWritten();
    } catch (error) {
      say($("note-status"), error.message, true);
    }
  }
}
