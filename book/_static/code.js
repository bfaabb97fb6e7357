// A button above a chapter shows all its code and hides it again; what the reader looks at stays where it is.
(() => {
  const bring = () => {
    const folded = document.querySelectorAll(".bd-article .cell:not(.tag_solution) > details.hide");
    const bar = document.querySelector(".bd-header-article .article-header-buttons");
    if (!folded.length || !bar) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "btn btn-sm show-code";
    const say = (shown) => {
      button.textContent = shown ? "Hide all code" : "Show all code";
      button.setAttribute("aria-pressed", String(shown));
    };
    say(false);
    button.addEventListener("click", () => {
      const shown = button.getAttribute("aria-pressed") !== "true";
      const places = [...document.querySelectorAll(".bd-article :is(h1, h2, h3, p, figure)")];
      const place = places.find((each) => each.getBoundingClientRect().bottom > bar.getBoundingClientRect().bottom);
      const before = place?.getBoundingClientRect().top;
      for (const each of folded) each.open = shown;
      if (place) scrollBy({ top: place.getBoundingClientRect().top - before, behavior: "instant" });
      say(shown);
    });
    bar.prepend(button);
  };
  document.readyState === "loading" ? addEventListener("DOMContentLoaded", bring) : bring();
})();
