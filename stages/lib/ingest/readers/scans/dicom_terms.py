"""The words of a DICOM header that may leave it: any other text may hold a name, and becomes "other".

A form is no protection: MUELLER has the form of a code string. So only known words pass, the defined terms of the DICOM
standard and the makers of scanners; and what is written is always a word of this module, never a header's own text.
"""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from stages.lib.ingest.readers.contract import OTHER


def _terms(listed: str) -> frozenset[str]:
    return frozenset(term.strip() for term in listed.split(","))


# Modality, PS3.3 C.7.3.1.1.1, retired terms too; without those of objects that hold no picture.
MODALITIES = _terms("""
    AR, AS, BDUS, BI, BMD, CD, CF, CFM, CP, CR, CS, CT, DD, DF, DG, DM, DMS, DOC, DS, DX, EC, ECG, EEG, EMG, EOG,
    EPS, ES, FA, FS, GM, HC, HD, IO, IOL, IVOCT, IVUS, KER, LEN, LP, LS, MA, MG, MR, MS, NM, OAM, OCT, OP, OPM, OPR,
    OPT, OPTBSV, OPTENF, OPV, OSS, OT, PA, POS, PT, PX, RESP, RF, RG, RTIMAGE, SEG, SM, SRF, ST, TG, US, VA, VF, XA,
    XC
""")

# PhotometricInterpretation, as far as it is read.
COLOUR_SPACES = _terms("""
    MONOCHROME1, MONOCHROME2, PALETTE COLOR, RGB, YBR_FULL, YBR_FULL_422, YBR_ICT, YBR_PARTIAL_420, YBR_PARTIAL_422,
    YBR_RCT
""")

# RescaleType, PS3.3 C.11.1.1.2.
RESCALE_TYPES = _terms("OD, HU, US, MGML, Z_EFF, ED, EDW, HU_MOD, PCT")

# BodyPartExamined, PS3.16 annex L, without single vessels and ducts; and THORAX, which many write for CHEST.
BODY_PARTS = _terms("""
    ABDOMEN, ABDOMENPELVIS, ABDOMINALAORTA, ACETABULUM, ACJOINT, ADRENAL, ANKLE, ANUS, AORTA, AORTICARCH, APPENDIX,
    ARM, AXILLA, BACK, BILEDUCT, BLADDER, BRAIN, BREAST, BRONCHUS, BUTTOCK, CALCANEUS, CALF, CAROTID, CEREBELLUM,
    CERVIX, CHEEK, CHEST, CHESTABDOMEN, CHESTABDPELVIS, CIRCLEOFWILLIS, CLAVICLE, COCCYX, COLON, CORNEA,
    CORONARYARTERY, CSPINE, CTSPINE, DUODENUM, EAR, ELBOW, ESOPHAGUS, EXTREMITY, EYE, EYELID, FACE, FEMUR, FETUS,
    FIBULA, FINGER, FLANK, FOOT, FOREARM, GALLBLADDER, HAND, HEAD, HEADNECK, HEART, HIP, HUMERUS, HYPOPHARYNX, IAC,
    ILEUM, ILIUM, JAW, JEJUNUM, JOINT, KIDNEY, KNEE, LARGEINTESTINE, LARYNX, LEG, LIVER, LOWERLIMB, LSPINE, LSSPINE,
    LUNG, MANDIBLE, MASTOID, MAXILLA, MEDIASTINUM, MOUTH, NASOPHARYNX, NECK, NECKCHEST, NECKCHESTABDOMEN,
    NECKCHESTABDPELV, NOSE, OPTICCANAL, ORBIT, OVARY, PANCREAS, PARATHYROID, PAROTID, PATELLA, PELVIS, PENIS,
    PERINEUM, PHANTOM, PHARYNX, PLACENTA, PROSTATE, RADIUS, RADIUSULNA, RECTUM, RETROPERITONEUM, RIB, SACRUM, SCALP,
    SCAPULA, SCLERA, SCROTUM, SELLA, SHOULDER, SIGMOID, SIJOINT, SKULL, SMALLINTESTINE, SPINALCORD, SPINE, SPLEEN,
    SSPINE, STERNUM, STOMACH, SUBMANDIBULAR, TESTIS, THIGH, THORAX, THUMB, THYMUS, THYROID, TIBIA, TIBIAFIBULA,
    TLSPINE, TMJ, TOE, TONGUE, TRACHEA, TSPINE, ULNA, UPPERLIMB, URETER, URETHRA, UTERUS, VAGINA, VULVA, WHOLEBODY,
    WRIST, ZYGOMA
""")

# The first three values of ImageType: those of PS3.3's modules, and what scanners commonly write in the third.
IMAGE_TYPES = _terms("""
    ORIGINAL, DERIVED, PRIMARY, SECONDARY, MIXED, NONE, OTHER, SCREEN SAVE, AXIAL, LOCALIZER, SCOUT, HELICAL,
    REFORMATTED, RESAMPLED, AVERAGE, MPR, CPR, MIP, MAXIMUM, MINIP, MINIMUM, VOLUME, VOLUME RENDERING, 3D RENDERING,
    ANGIO, ANGIO_TIME, CARDIAC, CARDIAC_CASCORE, CARDIAC_CTA, CARDIAC_GATED, DYNAMIC, FLUOROSCOPY, PERFUSION,
    ATTENUATION, QUANTITY, STATIC, STRESS, REST, SUBTRACTION, COMBINED, MATERIAL, M, P, R, I, M_FFE, M_IR, M_SE,
    P_FFE, R_FFE, I_FFE, MAGNITUDE, PHASE, REAL, IMAGINARY, ADC, TRACE, TRACEW, FA, DIFFUSION, FMRI, SWI, T1, T2,
    T2_STAR, WATER, FAT, IN_PHASE, OPP_PHASE, OUT_PHASE, MOSAIC, PROJECTION, DENSITY MAP, DIFFUSION MAP,
    IMAGE ADDITION, MODULUS SUBTRACT, PHASE MAP, PHASE SUBTRACT, PROJECTION IMAGE, T1 MAP, T2 MAP, VELOCITY MAP,
    WHOLE BODY, GATED, TOMO, GATED TOMO, RECON TOMO, RECON GATED TOMO, EMISSION, TRANSMISSION, SINGLE PLANE,
    SINGLE A, SINGLE B, BIPLANE A, BIPLANE B, TOMOSYNTHESIS, GENERATED_2D, PORTAL, RADIOGRAPH, SIMULATOR, DRR,
    ABDOMINAL, BREAST, CHEST, ENDOCAVITARY, ENDORECTAL, ENDOVAGINAL, EPICARDIAL, FETAL HEART, GYNECOLOGY,
    INTRAOPERATIVE, INTRAVASCULAR, MUSCULOSKELETAL, NEONATAL HEAD, OBSTETRICAL, OPHTHALMIC, PEDIATRIC, PELVIC,
    RETROPERITONEAL, SCROTAL, SMALL PARTS, TEE, TRANSCRANIAL, TTE, THYROID, LABEL, OVERVIEW, THUMBNAIL, MONTAGE,
    COLOR, RED, GREEN, BLUE
""")

# ViewPosition of X-rays: PS3.3 C.8.1.2 and C.8.11.5, and the eponymous views of mammography, PS3.16 CID 4014.
VIEWS = _terms("""
    AP, PA, LL, RL, RLD, LLD, RLO, LLO, LATERAL, OBLIQUE, AXIAL, ML, LM, LMO, MLO, CC, FB, SIO, ISO, XCC, XCCL, XCCM,
    CCID, MLID, CV, AT
""")
LATERALITIES = _terms("R, L, B, U")  # right, left, both, unpaired
INTENTS = _terms("FOR PRESENTATION, FOR PROCESSING")

# Makers by the first words of Manufacturer in lower case, as they call themselves by many names that go on differently.
# Synthetic is the demo dataset's.
_MAKERS = _terms("""
    Accuray, Acuson, ADAC, Agfa, Aloka, ATL, Barco, Bruker, Canon, Carestream, Elekta, Elscint, EOS imaging, Esaote,
    Fischer, Fonar, Fuji, Fujifilm, GE, Hamamatsu, Heidelberg Engineering, Hitachi, Hologic, Hyperfine, Imatron,
    Kodak, Konica Minolta, Leica, Lodox, Lorad, Lumisys, Lunar, Marconi, Medison, Mediso, Mindray, Neurologica,
    Neusoft, Nidek, Olympus, Optos, Philips, Picker, Planmeca, Samsung, Sectra, Shimadzu, Siemens, Sirona, SonoSite,
    Supersonic Imagine, Swissray, Synthetic, Topcon, Toshiba, Trex, United Imaging, Varian, Vatech, Vidar, Zeiss, Ziehm
""")
MAKERS = {name.lower(): name for name in _MAKERS} | {
    "carl zeiss": "Zeiss",
    "dentsply sirona": "Sirona",
    "eastman kodak": "Kodak",
    "g e": "GE",
    "general electric": "GE",
    "konica": "Konica Minolta",
    "uih": "United Imaging",
}


def fits(text: str, patterns: Sequence[str]) -> bool:
    """Whether one of the patterns, with * and ?, fits a text, without regard to capitals."""
    return any(fnmatchcase(text.strip().upper(), pattern.upper()) for pattern in patterns)


def known(text: str, terms: frozenset[str]) -> str:
    """The term that a text is, "" for no text, and else OTHER."""
    text = text.strip()
    return text if text in terms or not text else OTHER


def body_part(text: str) -> str:
    """A BodyPartExamined as its term; people write "Whole body" or C-SPINE."""
    return known(re.sub("[^A-Z]", "", text.upper()) or text, BODY_PARTS)


def maker(text: str) -> str:
    """A Manufacturer as the maker's name, whatever follows it."""
    words = " ".join(re.findall(r"\w+", text.lower().replace("_", " "))) + " "
    return next(
        (name for start, name in MAKERS.items() if words.startswith(start + " ")), OTHER if text.strip() else ""
    )


def image_type(values: list[str]) -> str:
    r"""The first three values of ImageType, as in ORIGINAL\PRIMARY\AXIAL."""
    return "\\".join(known(value.upper(), IMAGE_TYPES) for value in values[:3])
