// Tables sort by the column whose name is clicked, or chosen and entered on the keyboard.
(() => {
  const value = (row, i) => {
    const text = row.cells[i]?.textContent.trim() ?? "";
    const number = /^[-−+]?[\d,]*\.?\d/.test(text) ? parseFloat(text.replace("−", "-").replaceAll(",", "")) : NaN;
    return [Number.isNaN(number) ? 1 : 0, number, text];
  };
  const compare = ([aText, a, aWords], [bText, b, bWords]) =>
    aText - bText || (aText ? aWords.localeCompare(bWords) : a - b);

  const makeSortable = (table) => {
    const heads = table.tHead?.rows[table.tHead.rows.length - 1]?.cells ?? [];
    const body = table.tBodies[0];
    if (!body || body.rows.length < 5 || [...body.rows].some((row) => row.cells.length !== heads.length)) return;
    if (table.caption) table.caption.append(". A click on a column's name sorts by it.");
    [...heads].forEach((head, i) => {
      if (!head.textContent.trim()) return;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.dataset.lmSuppressShortcuts = "";
      button.title = "sort by this column";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const rising = head.getAttribute("aria-sort") !== "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", rising ? "ascending" : "descending");
        const rows = [...body.rows].map((row) => [value(row, i), row]);
        rows.sort(([a], [b]) => (rising ? compare(a, b) : compare(b, a)));
        body.append(...rows.map(([, row]) => row));
      });
    });
  };

  const bring = () => {
    // pandas gives a styled table no class of its own
    document.querySelectorAll('.cell_output table[id^="T_"]').forEach((table) => table.classList.add("dataframe"));
    const tables = "table.sortable, .cell_output table.dataframe, .bd-article table.table";
    document.querySelectorAll(tables).forEach((table) => {
      if (table.dataset.sorts === undefined) makeSortable(table);
      table.dataset.sorts = "";
    });
  };
  document.readyState === "loading" ? addEventListener("DOMContentLoaded", bring) : bring();
})();
