"""What each dataset is, where it is had, under which licence, and how it is cited; nothing is downloaded here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class About:
    """Facts about a dataset, as its makers give them.

    Attributes:
        what: the kind of images and what is known of them.
        images: how many the published set has that can be used here; None where there is no such number.
        tasks: of ``diagnosis`` and ``segmentation`` those it has truths for.
        licence: in short; the publisher's page is what counts.
        where: the address to get it from, or why there is none.
        cite: references with DOI or arXiv number; empty where there is nothing to cite.
        layout: what lies in the folder that is given as the root; empty where there is none.
        without: how to go without the images of which files are missing.
    """

    what: str
    images: int | None
    tasks: tuple[str, ...]
    licence: str
    where: str
    cite: str
    layout: str
    without: str = "move away the other files of these images"


ABOUT = {
    "brain_mr": About(
        what="T1 brain MR, embedded: 103 axial slices of the MNI152 template (ICBM 2009a), with grey and white matter",
        images=103,
        tasks=("segmentation",),
        licence="to be used, copied and modified freely as long as McGill's copyright notice is kept",
        where="nothing to download: the template comes with nilearn",
        cite="Fonov et al. 2009, doi:10.1016/S1053-8119(09)70884-5; Fonov et al. 2011, "
        "doi:10.1016/j.neuroimage.2010.07.033",
        layout="",
    ),
    "camus": About(
        what="echocardiography: 2000 images of 500 patients (two- and four-chamber view, end-diastole and end-systole) "
        "with left ventricle, myocardium and left atrium",
        images=2000,
        tasks=("segmentation",),
        licence="CC BY-NC-SA 4.0",
        where="https://humanheart-project.creatis.insa-lyon.fr/database/",
        cite="Leclerc et al. 2019, doi:10.1109/TMI.2019.2900516",
        layout="database_nifti/patientNNNN/ (or the older release's training/ and testing/)",
        without="move away these patients, or take one view alone with --views 4CH or --views 2CH (dataset.views in a "
        "configuration)",
    ),
    "covid_ct": About(
        what="chest CT slices out of publications: 746 images, 349 with COVID-19 and 397 without",
        images=746,
        tasks=("diagnosis",),
        licence="research use; the images belong to the authors and publishers of the papers they are from",
        where="https://github.com/UCSD-AI4H/COVID-CT",
        cite="Zhao et al. 2020, arXiv:2003.13865",
        layout="Images-processed/CT_COVID/ and CT_NonCOVID/ (unpacked), Data-split/",
        without="draw the test images from the others with --split random (dataset.split in a configuration)",
    ),
    "crchisto": About(
        what="H&E histology of colorectal cancer (CRCHistoPhenotypes): 100 tiles, each of the class most of its nuclei "
        "have",
        images=100,
        tasks=("diagnosis",),
        licence="research use",
        where="https://warwick.ac.uk/fac/cross_fac/tia/data/crchistolabelednucleihe",
        cite="Sirinukunwattana et al. 2016, doi:10.1109/TMI.2016.2525803",
        layout="Classification/imgN/ (or images/ and points/)",
        without="move away all other files of these images (in Classification/, their folders)",
    ),
    "isic2018": About(
        what="dermoscopy of skin lesions (ISIC 2018, task 1): 2594 images with lesion masks; diagnoses as far as the "
        "archive's metadata has them",
        images=2594,
        tasks=("diagnosis", "segmentation"),
        licence="by image, CC0 or CC BY-NC: see the archive",
        where="https://challenge.isic-archive.com/data/#2018",
        cite="Codella et al. 2019, arXiv:1902.03368; Tschandl et al. 2018, doi:10.1038/sdata.2018.161",
        layout="ISIC2018_Task1-2_Training_Input/, ISIC2018_Task1_Training_GroundTruth/ and metadata.csv (diagnoses)",
    ),
    "lizard": About(
        what="H&E histology of the colon: 238 tiles with every nucleus outlined, in 6 classes; each tile is of the "
        "class most of its nuclei have",
        images=238,
        tasks=("diagnosis", "segmentation"),
        licence="CC BY-NC-SA 4.0, for research",
        where="https://warwick.ac.uk/fac/cross_fac/tia/data/lizard",
        cite="Graham et al. 2021, arXiv:2108.11195",
        layout="Lizard_Images1/, Lizard_Images2/ and Lizard_Labels/",
    ),
    "tnbc": About(
        what="H&E histology of triple-negative breast cancer: 50 tiles of 11 patients with masks of the nuclei",
        images=50,
        tasks=("segmentation",),
        licence="CC BY 4.0",
        where="https://zenodo.org/record/2579118",
        cite="Naylor et al. 2019, doi:10.1109/TMI.2018.2865709",
        layout="Slide_NN/ and GT_NN/ (or images/ and masks/)",
    ),
    "folder": About(
        what="images of your own, grey or colour (PNG, JPEG, TIFF), with masks and labels where there are some",
        images=None,
        tasks=("diagnosis", "segmentation"),
        licence="yours",
        where="your disk",
        cite="",
        layout="images/ and, where there are some, masks/, labels.csv and test/ (with the same in it)",
        without="move these images away",
    ),
}
"""By the name that `gradprom.datasets.load_dataset` takes."""
