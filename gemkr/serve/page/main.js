// The page: what is asked, where it is kept (the address), and who answers.

import * as api from "./api.js";
import { Answer } from "./answer.js";
import { $, say } from "./dom.js";
import { Notes } from "./notes.js";
import { Photo } from "./photo.js";
import { Tree } from "./tree.js";

const problem = (error) => say($("status"), error.message, true);
const photo = new Photo(() => { say($("status"), ""); keepAddress(); }, problem);
const tree = new Tree(problem);
const notes = new Notes(() => { tree.refresh(); if (asked) ask(); });
let known = [];
let running = null;
let asked = false;

async function start() {
  known = await api.retrievers();
  const other = known.map(({ name }) => new Option(name, name));
  $("retriever").replaceChildren(...known.map(({ name }) => new Option(name, name)));
  $("other").append(...other);
  const [{ writable }] = await Promise.all([api.ready(), photo.offerSamples(), tree.refresh()]);
  notes.offer(writable);
  await readAddress();
}

async function readAddress() {
  const given = new URLSearchParams(location.search);
  $("question").value = given.get("q") ?? "";
  for (const [id, key] of [["retriever", "retriever"], ["other", "with"]]) {
    if (known.some(({ name }) => name === given.get(key))) $(id).value = given.get(key);
  }
  if (Number(given.get("k")) >= 1) $("k").value = given.get("k");
  const box = given.get("box")?.split(",").map(Number);
  if (given.get("picture")) await photo.useKnown(given.get("picture"), box?.length === 4 && box.every(Number.isFinite) ? box : null);
  if ($("question").value) await ask();
}

function keepAddress() {
  const kept = new URLSearchParams();
  if ($("question").value.trim()) kept.set("q", $("question").value.trim());
  if (photo.sample && photo.id) kept.set("picture", photo.id);
  if (photo.sample && photo.box) kept.set("box", photo.box.join(","));
  if (known.length && $("retriever").value !== known[0].name) kept.set("retriever", $("retriever").value);
  if ($("other").value) kept.set("with", $("other").value);
  if ($("k").value !== "5") kept.set("k", $("k").value);
  history.replaceState(null, "", kept.size ? `?${kept}` : location.pathname);
}

async function ask() {
  const question = $("question").value.trim();
  if (!question && !photo.id) {
    $("question").focus();
    return say($("status"), "Write a question, or choose a photo.", true);
  }
  keepAddress();
  photo.heat([]);
  running?.abort();
  const mine = (running = new AbortController());
  asked = true;
  $("stop").hidden = false;
  say($("status"), "asking …");
  const part = photo.box;
  const names = [...new Set([$("retriever").value, $("other").value].filter(Boolean))];
  const answers = names.map((name) => {
    const blind = photo.id && !known.find((one) => one.name === name).pictures;
    return new Answer(name, { openTree: (tokens) => tree.open(tokens), remove: notes.writable ? (id) => notes.remove(id) : null, heat: (parts) => photo.heat(parts, part) },
      blind ? `${name} does not look at pictures: it was asked with the words alone.` : "");
  });
  $("answers").classList.toggle("two", answers.length === 2);
  $("answers").replaceChildren(...answers.map((answer) => answer.element));
  try {
    const found = await Promise.all(answers.map((answer) => askOne(answer, question, mine.signal)));
    const hits = found.reduce((sum, number) => sum + number, 0);
    if (found.every((number) => number !== null)) say($("status"), `${hits} passage${hits === 1 ? "" : "s"} found`);
  } catch (error) {
    if (error.name === "AbortError") {
      if (running === mine) say($("status"), "stopped");
      for (const answer of answers) if (answer.element.getAttribute("aria-busy") === "true") answer.fail("stopped");
    } else {
      problem(error);
    }
  }
  if (running === mine) $("stop").hidden = true;
}

// The number of passages, or null where the service refused, which the answer and the status say.
async function askOne(answer, question, signal) {
  const sees = known.find((one) => one.name === answer.name).pictures;
  const body = { question, retriever: answer.name, k: Math.min(Math.max(Number($("k").value) || 5, 1), 50) };
  if (known.find((one) => one.name === answer.name).matches) body.matches = true;
  try {
    if (sees && photo.id) Object.assign(body, { picture: photo.id }, photo.box ? { box: photo.box } : {});
    const ranking = await askAgain(body, answer, signal);
    answer.finish(ranking);
    return ranking.hits.length;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    answer.fail(error.message);
    problem(error);
    return null;
  }
}

// A service keeps given photos for a while only: one that it does not know any more is sent once again.
async function askAgain(body, answer, signal) {
  try {
    return await api.ask(body, (clues) => answer.grow(clues), signal);
  } catch (error) {
    if (error.status !== 404 || !photo.file || body.picture !== photo.id) throw error;
    photo.id = body.picture = (await api.givePicture(photo.file)).id;
    return api.ask(body, (clues) => answer.grow(clues), signal);
  }
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
$("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey) {
    event.preventDefault();
    ask();
  }
});
$("stop").addEventListener("click", () => running?.abort());
for (const id of ["retriever", "other", "k"]) $(id).addEventListener("change", keepAddress);
document.addEventListener("keydown", (event) => {
  const writing = ["INPUT", "TEXTAREA", "SELECT"].includes(document.activeElement?.tagName);
  if (event.key === "/" && !writing) {
    event.preventDefault();
    $("question").focus();
  } else if (event.key === "Escape" && photo.box) {
    photo.choose(null);
  }
});
start().catch(problem);
