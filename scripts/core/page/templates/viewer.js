"use strict";
(() => {
  const box = document.querySelector(".viewer");
  const { cases, labels } = JSON.parse(document.getElementById("viewer-cases").textContent);
  const canvas = box.querySelector("canvas");
  if (!cases.length || !document.createElement("canvas").getContext("webgl2")) return;
  const control = (name) => box.querySelector(`[name=${name}]`);
  const TRUTH = 1;
  const PREDICTION = 2;
  const OUTLINE = 3;

  const view = new niivue.Niivue({
    backColor: [0, 0, 0, 1],
    crosshairColor: [0.45, 0.75, 1, 0.8],
    crosshairWidth: 0.35,
    crosshairWidthUnit: "percent",
    dragAndDropEnabled: false,
    isNearestInterpolation: false,
    isRadiologicalConvention: true,
    isSliceMM: false,
    fontColor: [0.9, 0.93, 0.96, 1],
    fontMinPx: 14,
    loadingText: "",
    logLevel: "error",
    multiplanarShowRender: 0,
    sagittalNoseLeft: true,
    scrollRequiresFocus: false,
    tileMargin: 6,
  });

  const colours = () => {
    const table = { R: [0], G: [0], B: [0], A: [0], I: [0], labels: [""] };
    for (const { value, name, rgb } of labels) {
      ["R", "G", "B"].forEach((key, i) => table[key].push(rgb[i]));
      table.A.push(255);
      table.I.push(value);
      table.labels.push(name);
    }
    return table;
  };

  const read = async (index, what, options) => {
    const base64 = document.getElementById(`viewer-${index}-${what}`).textContent;
    const image = await niivue.NVImage.loadFromBase64({ base64, name: `${what}.nii.gz`, ...options });
    if (what !== "image") image.setColormapLabel(colours());
    return image;
  };

  // what of a label map has another value as face neighbour, on every side
  const outlined = (image) => {
    const filled = image.img;
    const [width, height, depth] = image.hdr.dims.slice(1, 4);
    const steps = [1, width, width * height];
    const edge = new filled.constructor(filled.length);
    for (let z = 0, i = 0; z < depth; z++) {
      for (let y = 0; y < height; y++) {
        for (let x = 0; x < width; x++, i++) {
          if (!filled[i]) continue;
          const rim = !x || !y || !z || x === width - 1 || y === height - 1 || z === depth - 1;
          if (rim || steps.some((by) => filled[i - by] !== filled[i] || filled[i + by] !== filled[i])) edge[i] = filled[i];
        }
      }
    }
    image.img = edge;
    return image;
  };

  const shown = () => {
    const opacity = parseFloat(control("opacity").value);
    const outline = control("outline").checked;
    const truth = control("truth").checked;
    view.volumes[TRUTH].opacity = truth && !outline ? opacity : 0;
    view.volumes[OUTLINE].opacity = truth && outline ? 1 : 0;
    view.volumes[PREDICTION].opacity = control("prediction").checked ? opacity : 0;
    view.updateGLVolume();
  };

  const figures = (input) => {
    const value = parseFloat(input.value);
    input.nextElementSibling.textContent = Math.abs(value) < 10 ? value.toFixed(2) : value.toFixed(0);
  };

  const grey = (low, high, { limits: [least, largest] }) => {
    const level = control("level");
    const width = control("width");
    [level.min, level.max, level.value] = [least, largest, (low + high) / 2];
    [width.min, width.max, width.value] = [(largest - least) / 255, largest - least, high - low];
    figures(level);
    figures(width);
  };

  const windowed = () => {
    const level = parseFloat(control("level").value);
    const width = parseFloat(control("width").value);
    [view.volumes[0].cal_min, view.volumes[0].cal_max] = [level - width / 2, level + width / 2];
    figures(control("level"));
    figures(control("width"));
    view.updateGLVolume();
  };

  const legend = ({ values }) => {
    const items = labels.filter(({ value }) => values.includes(value)).map(({ name, rgb }) => {
      const item = document.createElement("li");
      const swatch = document.createElement("span");
      swatch.style.background = `rgb(${rgb.join(" ")})`;
      item.append(swatch, name);
      return item;
    });
    box.querySelector(".legend").replaceChildren(...items);
  };

  let current = -1;
  const show = async (index) => {
    box.dataset.state = "loading";
    const wanted = (current = index);
    const [low, high] = cases[index].window;
    const images = await Promise.all([
      read(index, "image", { colormap: "gray", cal_min: low, cal_max: high }),
      read(index, "truth", { opacity: 0 }),
      read(index, "prediction", { opacity: 0 }),
      read(index, "truth", { opacity: 0 }).then(outlined),
    ]);
    if (wanted !== current) return;
    while (view.volumes.length) view.removeVolume(view.volumes[view.volumes.length - 1]);
    for (const image of images) view.addVolume(image);
    view.scene.crosshairPos = view.mm2frac(cases[index].centre);
    grey(low, high, cases[index]);
    legend(cases[index]);
    shown();
    view.createOnLocationChange();
    box.dataset.state = "ready";
  };

  const toggle = (name) => {
    control(name).checked = !control(name).checked;
    shown();
  };

  // across the slices of the view: along x for sagittal, y for coronal, z for axial; in three planes the axial ones
  const step = (by) => {
    const axis = { 1: 1, 2: 0 }[control("view").value] ?? 2;
    const move = [0, 0, 0];
    move[axis] = by;
    view.moveCrosshairInVox(...move);
  };
  const keys = {
    ArrowUp: () => step(1),
    ArrowDown: () => step(-1),
    PageUp: () => step(5),
    PageDown: () => step(-5),
    ArrowLeft: () => view.moveCrosshairInVox(-1, 0, 0),
    ArrowRight: () => view.moveCrosshairInVox(1, 0, 0),
    t: () => toggle("truth"),
    p: () => toggle("prediction"),
    o: () => toggle("outline"),
  };
  // before the library's own keys, which do other things
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.key === "Tab") return;
    const action = keys[event.key] ?? keys[event.key.toLowerCase()];
    event.stopImmediatePropagation();
    if (!action) return;
    event.preventDefault();
    action();
  }, true);
  canvas.addEventListener("keyup", (event) => event.stopImmediatePropagation(), true);
  // the page scrolls until the viewer is asked for
  canvas.addEventListener("wheel", (event) => {
    if (document.activeElement !== canvas) event.stopImmediatePropagation();
  }, { capture: true });
  canvas.addEventListener("pointerdown", () => canvas.focus({ preventScroll: true }));

  control("case").addEventListener("change", (event) => show(parseInt(event.target.value, 10)));
  control("view").addEventListener("change", (event) => view.setSliceType(parseInt(event.target.value, 10)));
  for (const name of ["truth", "prediction", "outline"]) control(name).addEventListener("change", shown);
  control("opacity").addEventListener("input", shown);
  for (const name of ["level", "width"]) control(name).addEventListener("input", windowed);
  view.onIntensityChange = (image) => grey(image.cal_min, image.cal_max, cases[current]);
  view.onLocationChange = ({ values, mm }) => {
    const name = (value) => labels.find((label) => label.value === Math.round(value))?.name ?? "background";
    const place = mm.slice ? [...mm].slice(0, 3).map((v) => v.toFixed(0)).join(", ") : "";
    control("place").textContent =
      `value ${values[0].value.toFixed(0)} · truth: ${name(values[1].value)} · ` +
      `prediction: ${name(values[2].value)} · ${place} mm (R, A, S)`;
  };

  const start = async () => {
    box.hidden = false;
    box.parentElement.querySelector(".absent").hidden = true;
    if (box.clientWidth < 560) control("view").value = "0";
    await view.attachToCanvas(canvas, false);
    view.setSliceType(parseInt(control("view").value, 10));
    await show(0);
  };
  start().catch((error) => {
    console.error(error);
    box.hidden = true;
    box.parentElement.querySelector(".absent").hidden = false;
  });
  box.view = view;
})();
