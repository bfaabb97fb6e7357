  const number = (value) => value.toLocaleString("en-US", { maximumSignificantDigits: 3 });
  const count = (value) => value.toLocaleString("en-US", { maximumFractionDigits: 0 });

  const raised = (sign) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(sign)];
  const power = (value) => "10" + String(Math.round(Math.log10(value))).replace(/./g, raised);

  // Round numbers from low to high, no two of them nearer than `gap` once placed.
  function logTicks(low, high, place = Math.log, gap = 0) {
    const ratio = high / low;
    let digits = [1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9];
    if (ratio > 3) digits = [1, 2, 3, 5, 7];
    if (ratio > 12) digits = [1, 3];
    if (ratio > 300) digits = [1];
    const ticks = [];
    for (let k = Math.floor(Math.log10(low)); k <= Math.log10(high); k++)
      for (const tick of digits.map((digit) => Number(`${digit}e${k}`))) {
        const crowded = ticks.some((other) => Math.abs(place(other) - place(tick)) < gap);
        if (tick >= low * 0.999 && tick <= high * 1.001 && !crowded) ticks.push(tick);
      }
    return ticks;
  }

  function linearTicks(high, most = 6) {
    const unit = 10 ** Math.floor(Math.log10(high / most));
    const step = unit * [1, 2, 5, 10].find((factor) => high / (factor * unit) <= most);
    return Array.from({ length: Math.floor(high / step) + 1 }, (_, i) => i * step);
  }

  const controlsOf = (root) =>
    Object.fromEntries([...root.querySelectorAll("[data-control]")].map((e) => [e.dataset.control, e]));

  function offer(select, names, chosen) {
    select.replaceChildren(...names.map((name) => new Option(name, name, false, name === chosen)));
  }

  // A slider steps through a list.
  function setSlider(slider, list, value) {
    slider.max = list.length - 1;
    slider.value = list.indexOf(value);
  }

  function readSlider(slider, list, label) {
    const value = list[slider.value];
    slider.parentElement.querySelector("b").textContent = label(value);
    slider.setAttribute("aria-valuetext", label(value));
    return value;
  }

  function sayIn(root, sentence, plotted) {
    root.querySelector(".readout").textContent = sentence.replaceAll(" = ", "\u00a0=\u00a0");
    root.querySelector("svg.plot").setAttribute("aria-label", `${plotted} ${sentence}`);
  }

  // Plots are redrawn at the width of the page, so that letters keep their size on a phone.
  const sizeOf = (root) => Math.max(320, Math.min(800, root.clientWidth || 720));

  function redrawAtNewSize(root, update) {
    let drawn = root.clientWidth;
    new ResizeObserver(() => {
      if (root.clientWidth === drawn) return;
      drawn = root.clientWidth;
      update();
    }).observe(root);
  }

  function bringToLife(name, explore) {
    for (const root of document.querySelectorAll(`${name}:not([data-ready])`)) {
      root.dataset.ready = "";
      root.querySelector(".controls").hidden = false;
      // Else Jupyter takes keys that are meant for a control: m makes Markdown of a cell. It asks no element above.
      for (const control of root.querySelectorAll("input, select, summary")) control.dataset.lmSuppressShortcuts = "";
      explore(root);
    }
  }
