// Small helpers for elements. Text is always set as text, never as HTML.

export const $ = (id) => document.getElementById(id);

export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("aria-") || key === "role") made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children);
  return made;
}

export function say(place, sentence, bad = false) {
  place.textContent = sentence;
  place.classList.toggle("bad", bad);
}

export const percent = (share) => (share >= 0.001 ? `${(100 * share).toFixed(1)} %` : "< 0.1 %");

export const counted = (number, word) => `${number.toLocaleString("en")} ${word}${number === 1 ? "" : "s"}`;
