// The service's routes. Every failure becomes a Problem with one sentence for people.

export class Problem extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

async function call(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "The service does not answer; is it still running?");
  }
  if (answer.ok) return answer;
  let sentence = `The service answered with status ${answer.status}.`;
  try {
    sentence = (await answer.json()).detail ?? sentence;
  } catch {
    // no JSON: the status must do
  }
  throw new Problem(answer.status, sentence);
}

const json = async (path, options) => (await call(path, options)).json();
const body = (value) => ({ headers: { "content-type": "application/json" }, body: JSON.stringify(value) });

const inPath = (id) => id.split("/").map(encodeURIComponent).join("/");

export const retrievers = () => json("/v1/retrievers");
export const ready = () => json("/ready");
export const samples = () => json("/v1/pictures");
export const boxesOf = (id) => json(`/v1/pictures/${inPath(id)}`);
export const imageOf = (id) => `/v1/images/${inPath(id)}`;
export const document_ = (id) => json(`/v1/documents/${inPath(id)}`);
export const givePicture = (file) => json("/v1/pictures", { method: "POST", headers: { "content-type": "application/octet-stream" }, body: file });

export function following({ tokens, prefix, starting, retriever }) {
  const asked = new URLSearchParams({ most: "36" });
  if (tokens) asked.set("tokens", tokens.join(","));
  else if (prefix) asked.set("prefix", prefix);
  if (starting) asked.set("starting", starting);
  if (retriever) asked.set("retriever", retriever);
  return json(`/v1/index/next?${asked}`);
}

const keyed = (key) => ({ authorization: `Bearer ${key}` });

export function addDocument(key, document) {
  const options = body({ documents: [document] });
  return json("/v1/documents", { ...options, method: "POST", headers: { ...options.headers, ...keyed(key) } });
}

export const deleteDocument = (key, id) =>
  json(`/v1/documents?${new URLSearchParams({ doc_id: id })}`, { method: "DELETE", headers: keyed(key) });

// Calls onClues(clues) at each step and returns the ranking.
export async function ask(question, onClues, signal) {
  const answer = await call("/v1/retrieve/stream", { ...body(question), method: "POST", signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw new Problem(0, "The service ended its answer too early; ask again.");
    rest += value;
    const blocks = rest.split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const name = block.match(/^event: (.*)$/m)?.[1];
      const data = block.match(/^data: (.*)$/m)?.[1];
      if (!name || !data) continue;
      const event = JSON.parse(data);
      if (name === "problem") throw new Problem(event.status, event.detail);
      if (name === "ranking") return event;
      onClues(event.clues);
    }
  }
}
