// The photo: dropped, pasted, chosen, taken, or a sample; its boxes, and the one that is asked about.

import * as api from "./api.js";
import { $, element } from "./dom.js";

const LEAST = 0.02; // a drawn box is at least this share of a side

export class Photo {
  constructor(onChange, onProblem) {
    this.id = null; // what the service calls it
    this.file = null; // where it came from here, to send it again
    this.box = null; // left, top, right, bottom as shares, or null for all of it
    this.sample = false;
    this.onChange = onChange;
    this.onProblem = onProblem;
    this.turn = 0;
    this.listen();
  }

  listen() {
    const area = $("photo");
    $("file").addEventListener("change", (event) => this.take(event.target.files[0]));
    for (const name of ["dragover", "dragleave", "drop"]) {
      document.addEventListener(name, (event) => {
        event.preventDefault();
        area.classList.toggle("over", name === "dragover");
        if (name === "drop") this.take(event.dataTransfer.files[0]);
      });
    }
    document.addEventListener("paste", (event) => {
      const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
      if (file) this.take(file);
    });
    $("remove").addEventListener("click", () => this.clear());
    $("whole").addEventListener("click", () => this.choose(null));
    this.listenToDrawing();
    if (navigator.mediaDevices?.getUserMedia) this.listenToCamera();
  }

  async offerSamples() {
    const ids = await api.samples();
    $("samples").replaceChildren(
      ...ids.map((id) => {
        const image = element("img", { src: api.imageOf(id), alt: "", loading: "lazy" });
        const button = element("button", { type: "button", title: id, "aria-label": `sample ${id}`, "aria-pressed": "false" }, image);
        button.dataset.id = id;
        button.addEventListener("click", () => this.useKnown(id));
        return button;
      }),
    );
    $("samples").hidden = !ids.length;
  }

  async take(file) {
    if (!file) return;
    const turn = ++this.turn;
    $("photo-hint").textContent = "looking at the photo …";
    try {
      const found = await api.givePicture(file);
      if (turn !== this.turn) return;
      Object.assign(this, { id: found.id, file, sample: false, box: null });
      this.show(URL.createObjectURL(file), found);
    } catch (error) {
      if (this.id) this.choose(this.box);
      else $("photo-hint").textContent = "";
      this.onProblem(error);
    }
    $("file").value = "";
  }

  async useKnown(id, box = null) {
    const turn = ++this.turn;
    try {
      const found = await api.boxesOf(id);
      if (turn !== this.turn) return;
      Object.assign(this, { id: found.id, file: null, sample: true, box });
      this.show(api.imageOf(id), found);
    } catch (error) {
      this.onProblem(error);
    }
  }

  clear() {
    this.turn++;
    Object.assign(this, { id: null, file: null, box: null, sample: false });
    $("frame").hidden = true;
    $("empty").hidden = false;
    for (const id of ["remove", "whole"]) $(id).hidden = true;
    $("photo-hint").textContent = "";
    this.markSample();
    this.onChange();
  }

  show(source, found) {
    const old = $("picture").src;
    if (old.startsWith("blob:")) URL.revokeObjectURL(old);
    $("picture").src = source;
    $("empty").hidden = true;
    $("frame").hidden = $("remove").hidden = false;
    $("frame").style.setProperty("--ratio", found.width / found.height);
    const boxes = found.boxes.map(({ box, label, score }, number) => {
      const name = element("span", { textContent: `${number + 1}` });
      const button = element("button", {
        type: "button", "aria-label": `ask about box ${number + 1}: ${label}, ${Math.round(100 * score)} percent sure`, "aria-pressed": "false", title: `${label} ${score.toFixed(2)}`,
      }, name);
      place(button, box);
      button.addEventListener("click", () => this.choose(same(this.box, box) ? null : box));
      return button;
    });
    $("boxes").replaceChildren(...boxes);
    this.found = found;
    this.markSample();
    this.choose(this.box);
  }

  // Parts of the photo, or of the box `within` it that was asked about, by how well they match a passage: {box, weight, words}; none
  // takes the map away.
  heat(parts, within = null) {
    const [x, y, right, bottom] = within ?? [0, 0, 1, 1];
    $("boxes").querySelectorAll(".heat").forEach((old) => old.remove());
    $("boxes").prepend(
      ...parts.map(({ box, weight, words }) => {
        const part = element("div", { className: "heat", title: words });
        place(part, box.map((share, side) => (side % 2 ? y + share * (bottom - y) : x + share * (right - x))));
        part.style.setProperty("--weight", weight);
        return part;
      }),
    );
    if (parts.length) $("frame").scrollIntoView({ block: "nearest" });
  }

  choose(box) {
    this.box = box;
    $("boxes").querySelector(".drawn")?.remove();
    const buttons = [...$("boxes").querySelectorAll("button")];
    buttons.forEach((button, number) => button.setAttribute("aria-pressed", String(same(box, this.found.boxes[number].box))));
    const known = buttons.some((button) => button.getAttribute("aria-pressed") === "true");
    if (box && !known) {
      const drawn = element("div", { className: "drawn" });
      place(drawn, box);
      $("boxes").append(drawn);
    }
    $("boxes").classList.toggle("some", Boolean(box));
    $("whole").hidden = !box;
    const number = this.found.boxes.length;
    $("photo-hint").textContent = box
      ? "The question is about this part alone."
      : number ? "Click a box to ask about it alone, or draw one." : "Draw a box to ask about a part alone.";
    this.onChange();
  }

  markSample() {
    for (const button of $("samples").children) button.setAttribute("aria-pressed", String(this.sample && button.dataset.id === this.id));
  }

  listenToDrawing() {
    const frame = $("frame");
    let start = null;
    let drawn = null;
    const at = (event) => {
      const edges = frame.getBoundingClientRect();
      return [(event.clientX - edges.left) / edges.width, (event.clientY - edges.top) / edges.height].map((share) => Math.min(Math.max(share, 0), 1));
    };
    const boxTo = ([x, y]) => [Math.min(start[0], x), Math.min(start[1], y), Math.max(start[0], x), Math.max(start[1], y)];
    frame.addEventListener("pointerdown", (event) => {
      if (event.button === 0) start = at(event);
    });
    frame.addEventListener("pointermove", (event) => {
      if (!start) return;
      const box = boxTo(at(event));
      if (!drawn && box[2] - box[0] > LEAST && box[3] - box[1] > LEAST) {
        drawn = element("div", { className: "drawn" });
        $("boxes").append(drawn);
        frame.setPointerCapture(event.pointerId);
      }
      if (drawn) place(drawn, box);
    });
    frame.addEventListener("pointerup", (event) => {
      if (drawn) {
        const box = boxTo(at(event)).map((share) => Math.round(share * 1000) / 1000);
        drawn.remove();
        this.choose(box);
      }
      start = drawn = null;
    });
    frame.addEventListener("pointercancel", () => {
      drawn?.remove();
      start = drawn = null;
    });
  }

  listenToCamera() {
    const stop = () => {
      for (const track of $("video").srcObject?.getTracks() ?? []) track.stop();
      $("video").srcObject = null;
      $("viewfinder").close();
    };
    $("camera").hidden = false;
    $("camera").addEventListener("click", async () => {
      try {
        $("video").srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
        $("viewfinder").showModal();
      } catch {
        this.onProblem(new Error("The camera cannot be used; choose a photo in its place."));
      }
    });
    $("shoot").addEventListener("click", () => {
      const video = $("video");
      const canvas = element("canvas", { width: video.videoWidth, height: video.videoHeight });
      canvas.getContext("2d").drawImage(video, 0, 0);
      canvas.toBlob((blob) => this.take(blob), "image/jpeg", 0.92);
      stop();
    });
    $("close-camera").addEventListener("click", stop);
    $("viewfinder").addEventListener("cancel", stop);
  }
}

const same = (one, other) => one === other || Boolean(one && other && one.every((share, at) => Math.abs(share - other[at]) < 1e-3));

function place(made, [left, top, right, bottom]) {
  const share = (value) => `${100 * value}%`;
  Object.assign(made.style, { left: share(left), top: share(top), width: share(right - left), height: share(bottom - top) });
}
