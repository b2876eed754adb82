// What several parts use of the page.

export const byId = (id) => document.getElementById(id);
/** Sharp on fine screens, yet not four pictures where one is seen. */
export const pixelRatio = () => Math.min(devicePixelRatio, 2);

export const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
