//! libx264, for those who may use it: under the GPL, so only with the cargo feature `x264`.
//!
//! Up to four threads, each with a band of the picture, and about four slices a picture. The library's callback hands on
//! each slice while others are still being encoded. A slice below one that is not finished waits for it, so that slices
//! leave in the picture's order, the first of them after about a quarter of the work.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr::{from_mut, from_ref, null_mut};
use std::sync::{Mutex, PoisonError};

use lumen_core::Mode;
use x264_sys as sys;

use crate::I420;
use crate::encoder::{COARSE_QP, Coding, EncodeError, Encoder, Settings, Sink, Slice, clamp_bitrate, description};

const NAME: &str = "x264";

/// Slices of a picture that is high enough.
const SLICES: u16 = 4;
/// The library gives no thread fewer rows of macroblocks than this.
const THREAD_ROWS: u16 = 4;
/// Slices that wait for one above them; there are never more than [`SLICES`].
const WAITING: usize = SLICES as usize;

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
    pub(crate) fn open(settings: Settings, cores: u16) -> Result<Self, EncodeError> {
        let mode = settings.mode;
        let mut parameters = defaults()?;
        configure(&mut parameters, &settings, cores);
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
            // A coefficient takes at most 28 bits, so a picture 5.3 bytes a pixel; the library wants half as much again for
            // the slice that is being escaped. Memory that is never written to costs nothing.
            unit: vec![0; usize::from(mode.width()) * usize::from(mode.height()) * 8 + 65_536],
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
        let delivery = Mutex::new(Delivery {
            sink,
            unit: &mut self.unit,
            end: 0,
            parameter_sets: 0,
            waiting: [None; WAITING],
            next_macroblock: 0,
            last_macroblock: self.last_macroblock,
            outcome: Outcome::Unfinished,
        });
        let mut input = describe(picture);
        input.i_pts = self.pictures;
        input.opaque = shared(&delivery);
        input.i_type = if coding == Coding::Delta { sys::X264_TYPE_AUTO } else { sys::X264_TYPE_IDR } as c_int;
        input.i_qpplus1 = if coding == Coding::CoarseIdr { COARSE_QP + 1 } else { 0 };
        self.pictures += 1;
        let mut nals = null_mut();
        let mut count = 0;
        let mut output = MaybeUninit::<sys::x264_picture_t>::zeroed();
        // SAFETY: the encoder is open. `input` points at planes of this mode's size which, like `delivery`, outlive
        // the call; without frame threads and look-ahead the library keeps neither, and its threads call back only
        // while it lasts.
        let code =
            unsafe { sys::x264_encoder_encode(self.handle, &mut nals, &mut count, &mut input, output.as_mut_ptr()) };
        match delivery.into_inner().unwrap_or_else(PoisonError::into_inner).outcome {
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

/// What the callbacks work on for the length of one picture.
struct Delivery<'a, 'b> {
    sink: &'a mut Sink<'b>,
    unit: &'a mut [u8],
    /// `unit[..end]` is escaped.
    end: usize,
    /// Of these, the bytes at the beginning that are parameter sets. They travel with the first slice.
    parameter_sets: usize,
    waiting: [Option<Piece>; WAITING],
    /// The first macroblock of the slice to be handed on next.
    next_macroblock: c_int,
    last_macroblock: c_int,
    outcome: Outcome,
}

/// What several threads may use at once, as the library passes it on.
fn shared<T: Sync>(value: &T) -> *mut c_void {
    from_ref(value).cast_mut().cast()
}

/// An escaped slice: `unit[start..end]`.
#[derive(Clone, Copy)]
struct Piece {
    start: usize,
    end: usize,
    idr: bool,
    first_macroblock: c_int,
    last_macroblock: c_int,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Unfinished,
    Finished,
    NoRoom,
}

impl Delivery<'_, '_> {
    /// Escapes one NAL unit, and hands on what is then complete up to the picture's top.
    fn accept(&mut self, encoder: *mut sys::x264_t, nal: &mut sys::x264_nal_t) {
        let kind = nal.i_type as u32;
        // The library introduces itself and all its options in 700 bytes before the first IDR's slice, which has to begin
        // in the first packet. With these settings it has nothing else to say in such a unit.
        if kind == sys::nal_unit_type_e_NAL_SEI {
            return;
        }
        let idr = kind == sys::nal_unit_type_e_NAL_SLICE_IDR;
        let slice = idr || kind == sys::nal_unit_type_e_NAL_SLICE;
        let start = self.end;
        // A slice from further down may have come between them and the first slice.
        let carried = if slice && nal.i_first_mb == 0 { self.parameter_sets } else { 0 };
        let payload = usize::try_from(nal.i_payload).unwrap_or(0);
        // What the library asks to be there for `x264_nal_encode`.
        let need = carried + payload * 3 / 2 + 5 + 64;
        if self.outcome == Outcome::NoRoom || self.unit.len() - start < need {
            self.outcome = Outcome::NoRoom;
            return;
        }
        self.unit.copy_within(..carried, start);
        // SAFETY: called with the callback's own encoder and NAL unit, and with the room that the library asks for.
        unsafe { sys::x264_nal_encode(encoder, self.unit[start + carried..].as_mut_ptr(), nal) };
        self.end += carried + usize::try_from(nal.i_payload).unwrap_or(0);
        if !slice {
            self.parameter_sets = self.end;
            return;
        }
        let (first_macroblock, last_macroblock) = (nal.i_first_mb, nal.i_last_mb);
        match self.waiting.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(Piece { start, end: self.end, idr, first_macroblock, last_macroblock }),
            None => self.outcome = Outcome::NoRoom,
        }
        self.release();
    }

    fn release(&mut self) {
        let next = |piece: &mut Piece, next| piece.first_macroblock == next;
        while let Some(piece) =
            self.waiting.iter_mut().find_map(|place| place.take_if(|piece| next(piece, self.next_macroblock)))
        {
            let last = piece.last_macroblock == self.last_macroblock;
            let bytes = &self.unit[piece.start..piece.end];
            (self.sink)(Slice { bytes, idr: piece.idr, first: piece.first_macroblock == 0, last });
            self.next_macroblock = piece.last_macroblock + 1;
            if last {
                self.outcome = Outcome::Finished;
            }
        }
    }
}

unsafe extern "C" fn deliver(encoder: *mut sys::x264_t, nal: *mut sys::x264_nal_t, opaque: *mut c_void) {
    if nal.is_null() || opaque.is_null() {
        return;
    }
    // SAFETY: `opaque` is the `Delivery` of the `X264::encode` that is calling the library. What it holds may be used in
    // any thread (a `Sink` is `Send`), and the lock makes that one at a time.
    let delivery = unsafe { &*opaque.cast::<Mutex<Delivery<'_, '_>>>() };
    let mut delivery = delivery.lock().unwrap_or_else(PoisonError::into_inner);
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
fn configure(parameters: &mut sys::x264_param_t, settings: &Settings, cores: u16) {
    let mode = settings.mode;
    let (columns, rows) = (mode.width().div_ceil(16), mode.height().div_ceil(16));
    let threads = cores.min(SLICES).min(rows / THREAD_ROWS).max(1);
    // Of a thread's band; the library shares out whole rows of macroblocks.
    let slice_rows = rows.div_ceil(threads).div_ceil(SLICES / threads);
    parameters.i_log_level = sys::X264_LOG_NONE;
    parameters.i_threads = c_int::from(threads);
    parameters.i_lookahead_threads = c_int::from(threads);
    parameters.b_sliced_threads = c_int::from(threads > 1);
    parameters.i_slice_max_mbs = c_int::from(slice_rows) * c_int::from(columns);
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
