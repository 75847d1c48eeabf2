//! libx264, for those who may use it: under the GPL, so only with the cargo feature `x264`.
//!
//! One thread and four slices a picture: each slice is handed on by the library's callback while the next one is still
//! being encoded, in order, so that the first leaves after less than half of the picture's time.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr::{from_mut, null_mut};

use lumen_core::Mode;
use x264_sys as sys;

use crate::I420;
use crate::encoder::{COARSE_QP, Coding, EncodeError, Encoder, Settings, Sink, Slice, clamp_bitrate, description};

const NAME: &str = "x264";
const SLICES: u16 = 4;

/// Pictures' worth of bits in the rate control's buffer. Small, so that no picture takes long to send; not smaller,
/// because an IDR has to fit.
const VBV_PICTURES: u64 = 3;

/// A running encoder of one mode.
pub(crate) struct X264 {
    handle: *mut sys::x264_t,
    /// As in force; boxed because it is large and `reconfig` wants all of it.
    parameters: Box<sys::x264_param_t>,
    mode: Mode,
    /// One picture's NAL units as the library escapes them. Never grows.
    unit: Vec<u8>,
    last_macroblock: c_int,
    pictures: i64,
}

impl X264 {
    pub(crate) fn open(settings: Settings) -> Result<Self, EncodeError> {
        let mode = settings.mode;
        let mut parameters = defaults()?;
        configure(&mut parameters, &settings);
        // SAFETY: the parameters are complete, and the library copies them.
        let handle = unsafe { sys::x264_encoder_open(from_mut(&mut *parameters)) };
        if handle.is_null() {
            return Err(failed("take the mode", 0));
        }
        // SAFETY: the encoder is open; it fills the structure with what it made of the parameters.
        unsafe { sys::x264_encoder_parameters(handle, from_mut(&mut *parameters)) };
        let (columns, rows) = (mode.width().div_ceil(16), mode.height().div_ceil(16));
        Ok(Self {
            handle,
            parameters,
            mode,
            // No macroblock takes more than its samples, 1.5 bytes a pixel; the library wants half as much again for
            // the slice that is being escaped, a quarter of the picture.
            unit: vec![0; usize::from(mode.width()) * usize::from(mode.height()) * 2 + 65_536],
            last_macroblock: c_int::from(columns) * c_int::from(rows) - 1,
            pictures: 0,
        })
    }
}

impl Encoder for X264 {
    fn name(&self) -> &'static str {
        NAME
    }

    fn encode(&mut self, picture: &I420, coding: Coding, sink: &mut Sink<'_>) -> Result<(), EncodeError> {
        let size = (usize::from(self.mode.width()), usize::from(self.mode.height()));
        if (picture.width(), picture.height()) != size {
            return Err(EncodeError::WrongSize);
        }
        let mut delivery = Delivery {
            sink,
            unit: &mut self.unit,
            start: 0,
            end: 0,
            last_macroblock: self.last_macroblock,
            outcome: Outcome::Unfinished,
        };
        let mut input = describe(picture);
        input.i_pts = self.pictures;
        input.opaque = from_mut(&mut delivery).cast::<c_void>();
        input.i_type = if coding == Coding::Delta { sys::X264_TYPE_AUTO } else { sys::X264_TYPE_IDR } as c_int;
        input.i_qpplus1 = if coding == Coding::CoarseIdr { COARSE_QP + 1 } else { 0 };
        self.pictures += 1;
        let mut nals = null_mut();
        let mut count = 0;
        let mut output = MaybeUninit::<sys::x264_picture_t>::zeroed();
        // SAFETY: the encoder is open. `input` points at planes of this mode's size which, like `delivery`, outlive
        // the call; with one thread and no look-ahead the library keeps neither, and calls back only from within it.
        let code =
            unsafe { sys::x264_encoder_encode(self.handle, &mut nals, &mut count, &mut input, output.as_mut_ptr()) };
        match delivery.outcome {
            _ if code < 0 => Err(failed("encode", code)),
            Outcome::Finished => Ok(()),
            Outcome::Unfinished => Err(failed("finish a picture", code)),
            Outcome::NoRoom => Err(failed("keep a picture within its buffer", code)),
        }
    }

    fn set_bitrate(&mut self, kbps: u32) -> Result<(), EncodeError> {
        limit(&mut self.parameters, kbps, self.mode);
        // SAFETY: the encoder is open, and the parameters are its own but for the bitrate.
        let code = unsafe { sys::x264_encoder_reconfig(self.handle, from_mut(&mut *self.parameters)) };
        if code < 0 { Err(failed("change its bitrate", code)) } else { Ok(()) }
    }
}

impl Drop for X264 {
    fn drop(&mut self) {
        // SAFETY: opened once, closed once, not used after.
        unsafe { sys::x264_encoder_close(self.handle) };
    }
}

/// What the callback works on for the length of one picture.
struct Delivery<'a, 'b> {
    sink: &'a mut Sink<'b>,
    unit: &'a mut [u8],
    /// `unit[start..end]` is escaped and not yet handed on: parameter sets wait for their first slice.
    start: usize,
    end: usize,
    last_macroblock: c_int,
    outcome: Outcome,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Unfinished,
    Finished,
    NoRoom,
}

impl Delivery<'_, '_> {
    /// Escapes one NAL unit behind those that wait, and hands all of them on if it is a slice.
    fn accept(&mut self, encoder: *mut sys::x264_t, nal: &mut sys::x264_nal_t) {
        let kind = nal.i_type as u32;
        // The library introduces itself and all its options in 700 bytes before the first IDR's slice, which has to begin
        // in the first packet. With these settings it has nothing else to say in such a unit.
        if kind == sys::nal_unit_type_e_NAL_SEI {
            return;
        }
        let payload = usize::try_from(nal.i_payload).unwrap_or(0);
        // What the library asks to be there for `x264_nal_encode`.
        let need = payload * 3 / 2 + 5 + 64;
        if self.outcome == Outcome::NoRoom || self.unit.len() - self.end < need {
            self.outcome = Outcome::NoRoom;
            return;
        }
        // SAFETY: called with the callback's own encoder and NAL unit, and with the room that the library asks for.
        unsafe { sys::x264_nal_encode(encoder, self.unit[self.end..].as_mut_ptr(), nal) };
        self.end += usize::try_from(nal.i_payload).unwrap_or(0);
        let idr = kind == sys::nal_unit_type_e_NAL_SLICE_IDR;
        if !idr && kind != sys::nal_unit_type_e_NAL_SLICE {
            return;
        }
        let last = nal.i_last_mb == self.last_macroblock;
        (self.sink)(Slice { bytes: &self.unit[self.start..self.end], idr, first: nal.i_first_mb == 0, last });
        self.start = self.end;
        if last {
            self.outcome = Outcome::Finished;
        }
    }
}

unsafe extern "C" fn deliver(encoder: *mut sys::x264_t, nal: *mut sys::x264_nal_t, opaque: *mut c_void) {
    if nal.is_null() || opaque.is_null() {
        return;
    }
    // SAFETY: `opaque` is the `Delivery` of the `X264::encode` that is calling the library, borrowed by nobody else
    // meanwhile: with one thread there is one callback at a time.
    let delivery = unsafe { &mut *opaque.cast::<Delivery<'_, '_>>() };
    // SAFETY: the library gives the callback a NAL unit of its own, valid until the next picture.
    delivery.accept(encoder, unsafe { &mut *nal });
}

/// Preset ultrafast, tuned for zero latency.
fn defaults() -> Result<Box<sys::x264_param_t>, EncodeError> {
    let mut parameters = Box::new(MaybeUninit::<sys::x264_param_t>::zeroed());
    // SAFETY: the structure is of the type that the function fills, and the strings end in NUL.
    let code = unsafe {
        sys::x264_param_default_preset(parameters.as_mut_ptr(), c"ultrafast".as_ptr(), c"zerolatency".as_ptr())
    };
    if code < 0 {
        return Err(failed("give its defaults", code));
    }
    // SAFETY: filled by the call above; what it might have left is zero, valid for every field (pointers and
    // function pointers are nullable).
    Ok(unsafe { parameters.assume_init() })
}

/// Constant bitrate with a small buffer, an IDR only when asked for, the colours signalled.
fn configure(parameters: &mut sys::x264_param_t, settings: &Settings) {
    let mode = settings.mode;
    parameters.i_log_level = sys::X264_LOG_NONE;
    parameters.i_threads = 1;
    parameters.i_lookahead_threads = 1;
    parameters.b_sliced_threads = 0;
    parameters.i_slice_count = c_int::from(SLICES.min(mode.height().div_ceil(16)));
    parameters.nalu_process = Some(deliver);
    parameters.i_width = c_int::from(mode.width());
    parameters.i_height = c_int::from(mode.height());
    parameters.i_csp = sys::X264_CSP_I420 as c_int;
    parameters.i_fps_num = mode.refresh_mhz();
    parameters.i_fps_den = 1000;
    parameters.i_timebase_num = 1000;
    parameters.i_timebase_den = mode.refresh_mhz();
    parameters.b_vfr_input = 0;
    parameters.i_keyint_max = sys::X264_KEYINT_MAX_INFINITE as c_int;
    parameters.i_scenecut_threshold = 0;
    parameters.i_bframe = 0;
    parameters.b_repeat_headers = 1;
    parameters.b_annexb = 1;
    parameters.b_aud = 0;
    parameters.i_nal_hrd = sys::X264_NAL_HRD_NONE as c_int;
    parameters.rc.i_rc_method = sys::X264_RC_ABR as c_int;
    parameters.rc.i_lookahead = 0;
    parameters.rc.b_mb_tree = 0;
    parameters.rc.f_vbv_buffer_init = 1.0;
    limit(parameters, settings.bitrate_kbps, mode);
    parameters.vui.i_vidformat = 5;
    parameters.vui.b_fullrange = c_int::from(settings.colour.full_range);
    let [primaries, transfer, matrix] = description(settings.colour.matrix).map(c_int::from);
    parameters.vui.i_colorprim = primaries;
    parameters.vui.i_transfer = transfer;
    parameters.vui.i_colmatrix = matrix;
}

/// Sets the bitrate, and a buffer of [`VBV_PICTURES`] pictures.
fn limit(parameters: &mut sys::x264_param_t, kbps: u32, mode: Mode) {
    let kbps = clamp_bitrate(kbps);
    parameters.rc.i_bitrate = kbps;
    parameters.rc.i_vbv_max_bitrate = kbps;
    let buffer = u64::from(kbps.unsigned_abs()) * VBV_PICTURES * mode.frame_interval_ns() / 1_000_000_000;
    parameters.rc.i_vbv_buffer_size = c_int::try_from(buffer).unwrap_or(kbps).max(1);
}

/// The library's view of a picture; it reads through the pointers and copies.
fn describe(picture: &I420) -> sys::x264_picture_t {
    let mut input = MaybeUninit::<sys::x264_picture_t>::zeroed();
    // SAFETY: the structure is of the type that the function fills.
    unsafe { sys::x264_picture_init(input.as_mut_ptr()) };
    // SAFETY: filled by the call above; all fields are valid as zeros too.
    let mut input = unsafe { input.assume_init() };
    let stride = picture.stride() as c_int;
    input.img.i_csp = sys::X264_CSP_I420 as c_int;
    input.img.i_plane = 3;
    input.img.i_stride = [stride, stride / 2, stride / 2, 0];
    let [y, u, v] = picture.planes();
    input.img.plane = [y.as_ptr().cast_mut(), u.as_ptr().cast_mut(), v.as_ptr().cast_mut(), null_mut()];
    input
}

fn failed(what: &'static str, code: c_int) -> EncodeError {
    EncodeError::Library { encoder: NAME, what, code }
}
