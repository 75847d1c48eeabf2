//! The embedded encoder: Cisco's openh264, compiled from its bundled source.
//!
//! The library is driven through its C interface, because the safe wrapper lets one set neither a bitrate in mid-stream
//! nor the quantiser of a picture. Up to four threads encode a slice each, but the library hands a picture over when it is
//! whole, so that its slices leave together.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::ptr::{from_mut, from_ref, null_mut};

use openh264_sys2 as sys;
use openh264_sys2::source::APILoader;

use crate::I420;
use crate::encoder::{COARSE_QP, Coding, EncodeError, Encoder, Settings, Sink, Slice, clamp_bitrate, description};

const NAME: &str = "openh264";

/// The library's rate control knows no faster rate; see [`target_bits`].
const MAX_HERTZ: f32 = 60.0;

/// The most threads that the library takes.
const THREADS: u16 = 4;

/// A running encoder of one mode.
pub(crate) struct OpenH264 {
    raw: Raw,
    /// What the library writes about a picture; 10 kB, so not on the stack.
    info: Box<sys::SFrameBSInfo>,
    unit: Vec<u8>,
    /// The bitrate is the one in force.
    settings: Settings,
    cores: u16,
}

impl OpenH264 {
    pub(crate) fn open(settings: Settings, cores: u16) -> Result<Self, EncodeError> {
        let mode = settings.mode;
        let (width, height) = (usize::from(mode.width()), usize::from(mode.height()));
        if width.max(height) > 3840 || width.min(height) > 2160 {
            return Err(EncodeError::TooLarge(mode));
        }
        let raw = Raw::start(&settings, cores)?;
        // No macroblock takes more than its samples (1.5 bytes a pixel) and a few bits, so that this never grows on the
        // frame path.
        let unit = Vec::with_capacity(width * height * 2 + 65_536);
        Ok(Self { raw, info: Box::default(), unit, settings, cores })
    }

    fn attempt(&mut self, picture: &I420, coding: Coding) -> Result<(), EncodeError> {
        if coding != Coding::Delta {
            self.raw.force_idr()?;
        }
        // With the rate control off the library uses the layer's fixed quantiser, which is set to the coarse one.
        if coding == Coding::CoarseIdr {
            self.raw.set(sys::ENCODER_OPTION_RC_MODE, &mut sys::RC_OFF_MODE.clone(), "switch its rate control off")?;
        }
        self.raw.encode(picture, &mut self.info)?;
        if coding == Coding::CoarseIdr {
            let on = &mut sys::RC_BITRATE_MODE.clone();
            self.raw.set(sys::ENCODER_OPTION_RC_MODE, on, "switch its rate control on")?;
        }
        Ok(())
    }
}

impl Encoder for OpenH264 {
    fn name(&self) -> &'static str {
        NAME
    }

    fn encode(&mut self, picture: &I420, coding: Coding, sink: &mut Sink<'_>) -> Result<(), EncodeError> {
        let mode = self.settings.mode;
        if (picture.width(), picture.height()) != (usize::from(mode.width()), usize::from(mode.height())) {
            return Err(EncodeError::WrongSize);
        }
        if let Err(error) = self.attempt(picture, coding) {
            // The library gives up, and is of no more use, when a picture outgrows its own buffers: black and white
            // noise after a still picture does. A new one, which begins with an IDR anyway, makes it a coarse one.
            self.raw = Raw::start(&self.settings, self.cores)?;
            self.attempt(picture, Coding::CoarseIdr).map_err(|_| error)?;
        }
        self.raw.collect(&self.info, &mut self.unit);
        let idr = self.info.eFrameType == sys::videoFrameTypeIDR;
        sink(Slice { bytes: &self.unit, idr, first: true, last: true });
        Ok(())
    }

    fn set_bitrate(&mut self, kbps: u32) -> Result<(), EncodeError> {
        self.settings.bitrate_kbps = kbps;
        let bits = target_bits(kbps, hertz(&self.settings));
        let mut rate = sys::SBitrateInfo { iLayer: sys::SPATIAL_LAYER_ALL, iBitrate: bits };
        self.raw.set(sys::ENCODER_OPTION_BITRATE, &mut rate, "change its bitrate")
    }
}

fn hertz(settings: &Settings) -> f32 {
    settings.mode.refresh_mhz() as f32 / 1000.0
}

/// Bits a second as the library counts them: above [`MAX_HERTZ`] it still shares them out over 60 frames, so that a
/// second of 120 frames must be asked for at half the rate.
fn target_bits(kbps: u32, hertz: f32) -> c_int {
    let bits = clamp_bitrate(kbps) as f32 * 1000.0;
    (bits * (MAX_HERTZ / hertz).min(1.0)) as c_int
}

/// The C object. Only this type touches its function table.
struct Raw {
    encoder: *mut sys::ISVCEncoder,
    table: sys::ISVCEncoderVtbl,
    /// A picture failed: the library may have taken itself down without noting it, and must not be asked for another.
    failed: bool,
}

impl Raw {
    /// An encoder that takes pictures, the first of which will be an IDR.
    fn start(settings: &Settings, cores: u16) -> Result<Self, EncodeError> {
        let mut raw = Self::create()?;
        raw.initialise(settings, hertz(settings), cores)?;
        Ok(raw)
    }

    fn create() -> Result<Self, EncodeError> {
        let mut encoder: *mut sys::ISVCEncoder = null_mut();
        // SAFETY: the pointer is valid for the write of one pointer, which is all the function does with it.
        let code = unsafe { APILoader::WelsCreateSVCEncoder(from_mut(&mut encoder)) };
        if code != 0 || encoder.is_null() {
            return Err(failed("start", code));
        }
        // SAFETY: a created encoder begins with a pointer to its function table, which lives as long as it does.
        let table = unsafe { **encoder };
        Ok(Self { encoder, table, failed: false })
    }

    fn initialise(&mut self, settings: &Settings, hertz: f32, cores: u16) -> Result<(), EncodeError> {
        let mut quiet = sys::WELS_LOG_QUIET;
        self.set(sys::ENCODER_OPTION_TRACE_LEVEL, &mut quiet, "be silent")?;
        let mut parameters = sys::SEncParamExt::default();
        let defaults = self.table.GetDefaultParams.ok_or(failed("give its defaults", 0))?;
        // SAFETY: the encoder exists, and the structure is of the type that the function fills.
        check(unsafe { defaults(self.encoder, from_mut(&mut parameters)) }, "give its defaults")?;
        configure(&mut parameters, settings, hertz, cores);
        let initialise = self.table.InitializeExt.ok_or(failed("take the mode", 0))?;
        // SAFETY: the encoder exists and copies the parameters.
        check(unsafe { initialise(self.encoder, from_ref(&parameters)) }, "take the mode")
    }

    /// Sets an option; `value` must be of the type that the library documents for it.
    fn set<T>(&mut self, option: sys::ENCODER_OPTION, value: &mut T, what: &'static str) -> Result<(), EncodeError> {
        let set = self.table.SetOption.ok_or(failed(what, 0))?;
        // SAFETY: the encoder exists; the callers in this file pair each option with its documented type, which the
        // library copies before it returns.
        check(unsafe { set(self.encoder, option, from_mut(value).cast::<c_void>()) }, what)
    }

    fn force_idr(&mut self) -> Result<(), EncodeError> {
        let force = self.table.ForceIntraFrame.ok_or(failed("make an IDR", 0))?;
        // SAFETY: the encoder exists and is initialised: `OpenH264::open` gives out no other.
        check(unsafe { force(self.encoder, true) }, "make an IDR")
    }

    fn encode(&mut self, picture: &I420, info: &mut sys::SFrameBSInfo) -> Result<(), EncodeError> {
        let [y, u, v] = picture.planes();
        let stride = picture.stride() as c_int;
        // The library takes mutable pointers and only reads through them.
        let source = sys::SSourcePicture {
            iColorFormat: sys::videoFormatI420,
            iStride: [stride, stride / 2, stride / 2, 0],
            pData: [y.as_ptr().cast_mut(), u.as_ptr().cast_mut(), v.as_ptr().cast_mut(), null_mut()],
            iPicWidth: picture.width() as c_int,
            iPicHeight: picture.height() as c_int,
            ..Default::default()
        };
        let encode = self.table.EncodeFrame.filter(|_| !self.failed).ok_or(failed("encode", 0))?;
        // SAFETY: the encoder is initialised, for pictures of this size (`OpenH264::encode` compares), and has not
        // failed since; the planes hold `height` (chroma: half) rows of the given strides, and they outlive the call.
        let code = unsafe { encode(self.encoder, from_ref(&source), from_mut(info)) };
        self.failed = code != 0;
        check(code, "encode")
    }

    /// Copies the NAL units that the last [`Raw::encode`] described into `unit`.
    fn collect(&self, info: &sys::SFrameBSInfo, unit: &mut Vec<u8>) {
        unit.clear();
        for layer in info.sLayerInfo.iter().take(usize::try_from(info.iLayerNum).unwrap_or(0)) {
            let count = usize::try_from(layer.iNalCount).unwrap_or(0);
            if count == 0 || layer.pNalLengthInByte.is_null() || layer.pBsBuf.is_null() {
                continue;
            }
            // SAFETY: after a successful encode the library keeps `iNalCount` lengths here until the next call.
            let lengths = unsafe { std::slice::from_raw_parts(layer.pNalLengthInByte, count) };
            let length = lengths.iter().map(|&length| usize::try_from(length).unwrap_or(0)).sum();
            // SAFETY: a layer's NAL units lie one after the other in its buffer, valid until the next call.
            unit.extend_from_slice(unsafe { std::slice::from_raw_parts(layer.pBsBuf, length) });
        }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(uninitialise) = self.table.Uninitialize {
            // SAFETY: the encoder exists; the function is harmless on one that was never initialised.
            unsafe { uninitialise(self.encoder) };
        }
        // SAFETY: created by `WelsCreateSVCEncoder`, destroyed once, not used after.
        unsafe { APILoader::WelsDestroySVCEncoder(self.encoder) };
    }
}

/// Real time, constant bitrate, a thread for each slice, no frame skipped, one reference, an IDR only when asked for.
fn configure(parameters: &mut sys::SEncParamExt, settings: &Settings, hertz: f32, cores: u16) {
    let (width, height) = (c_int::from(settings.mode.width()), c_int::from(settings.mode.height()));
    let bits = target_bits(settings.bitrate_kbps, hertz);
    parameters.iUsageType = sys::CAMERA_VIDEO_REAL_TIME;
    parameters.iPicWidth = width;
    parameters.iPicHeight = height;
    parameters.iTargetBitrate = bits;
    parameters.iMaxBitrate = 0;
    parameters.iRCMode = sys::RC_BITRATE_MODE;
    parameters.fMaxFrameRate = hertz.min(MAX_HERTZ);
    parameters.iComplexityMode = sys::LOW_COMPLEXITY;
    parameters.uiIntraPeriod = 0;
    parameters.iNumRefFrame = 1;
    parameters.eSpsPpsIdStrategy = sys::CONSTANT_ID;
    parameters.bEnableFrameSkip = false;
    parameters.bEnableSceneChangeDetect = false;
    parameters.bEnableLongTermReference = false;
    parameters.bEnableDenoise = false;
    // Both look at every block once more; on a desktop they find nothing that pays for it.
    parameters.bEnableBackgroundDetection = false;
    parameters.bEnableAdaptiveQuant = false;
    let slices = cores.clamp(1, THREADS);
    parameters.iMultipleThreadIdc = slices;
    // It would move the slices' borders by the time that each took: the same pictures would not make the same stream.
    parameters.bUseLoadBalancing = false;
    parameters.iTemporalLayerNum = 1;
    parameters.iSpatialLayerNum = 1;
    let layer = &mut parameters.sSpatialLayers[0];
    layer.iVideoWidth = width;
    layer.iVideoHeight = height;
    layer.fFrameRate = hertz.min(MAX_HERTZ);
    layer.iSpatialBitrate = bits;
    layer.iMaxSpatialBitrate = 0;
    layer.iDLayerQp = COARSE_QP;
    layer.sSliceArgument.uiSliceMode = if slices > 1 { sys::SM_FIXEDSLCNUM_SLICE } else { sys::SM_SINGLE_SLICE };
    layer.sSliceArgument.uiSliceNum = slices.into();
    layer.bVideoSignalTypePresent = true;
    layer.uiVideoFormat = sys::VF_UNDEF as u8;
    layer.bFullRange = settings.colour.full_range;
    layer.bColorDescriptionPresent = true;
    [layer.uiColorPrimaries, layer.uiTransferCharacteristics, layer.uiColorMatrix] =
        description(settings.colour.matrix);
}

fn check(code: c_int, what: &'static str) -> Result<(), EncodeError> {
    if code == 0 { Ok(()) } else { Err(failed(what, code)) }
}

fn failed(what: &'static str, code: c_int) -> EncodeError {
    EncodeError::Library { encoder: NAME, what, code }
}
