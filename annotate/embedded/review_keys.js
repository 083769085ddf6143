// Argilla keeps the focus in the form with the questions, so the keyboard can neither scroll the record nor unfold what
// is folded in it. Here page up and down scroll it, and F folds or unfolds all of it. Where text is typed, keys are text.
(() => {
  const isTyping = (target) =>
    target.isContentEditable || target.matches("textarea, input:not([type=radio]):not([type=checkbox])");

  const scroll = (direction) => {
    const panels = [...document.querySelectorAll(".record__content")];
    const panel = panels.find((it) => it.scrollHeight > it.clientHeight);
    if (panel) panel.scrollBy({ top: 0.8 * direction * panel.clientHeight });
  };

  const fold = () => {
    const folded = [...document.querySelectorAll(".record__content details")];
    const isOpening = folded.some((it) => !it.open);
    folded.forEach((it) => { it.open = isOpening; });
  };

  const actions = { PageDown: () => scroll(1), PageUp: () => scroll(-1), f: fold, F: fold };

  window.addEventListener("keydown", (event) => {
    const action = actions[event.key];
    if (!action || isTyping(event.target) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  }, true);
})();
