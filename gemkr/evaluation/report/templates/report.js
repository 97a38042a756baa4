const search = document.getElementById("search");
const cards = [...document.querySelectorAll(".card")].map((card) => [card, card.textContent.toLowerCase()]);
search.hidden = false;
search.addEventListener("input", () => {
  const wanted = search.value.trim().toLowerCase();
  for (const [card, text] of cards) card.classList.toggle("off", !text.includes(wanted));
});
