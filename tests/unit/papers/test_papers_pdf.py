"""Real papers compared with expectations that were written by hand from the rendered pages."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pytest

from papers.paper import Paper
from papers.pdf import read_pdf

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "papers"


@dataclass(frozen=True)
class Expected:
    """Expected phrases in reading order, across columns, pages and hyphenated words."""

    title: str
    abstract_starts: str
    abstract_ends: str
    headings: tuple[str, ...]
    captions: tuple[str, ...]
    in_order: tuple[str, ...]
    absent: tuple[str, ...]


EXAMPLE_PAPERS = {
    "N18-3011.pdf": Expected(
        title="Construction of the Literature Graph in Semantic Scholar",
        abstract_starts="We describe a deployed scalable system for organizing published",
        abstract_ends="to enable semantic features in www.semanticscholar.org.",
        headings=(
            "1 Introduction",
            "2 Structure of The Literature Graph",
            "2.1 Node Types",
            "2.2 Edge Types",
            "3 Extracting Metadata",
            "4 Entity Extraction and Linking",
            "4.1 Approaches",
            "4.2 Entity Extraction Models",
            "4.3 Knowledge Bases",
            "4.4 Entity Linking Models",
            "5 Other Research Problems",
            "6 Conclusion and Future Work",
        ),
        captions=(
            "Figure 1: Part of the literature graph.",
            "Table 1: Results of the ScienceParse system.",
            "Table 2: Document-level evaluation of three approaches in two scientific areas: "
            "computer science (CS) and biomedical (Bio).",
            "Table 3: ",
            "Table 4: ",
        ),
        in_order=(
            "The goal of this work is to facilitate algorithmic discovery",
            "results in academic search (e.g., Xiong et al., 2017). We describe methods used",
            "into the literature graph (see Fig. 1)",
            "passed through one fully-connected layer and then fed into a "
            "two-layer bidirectional LSTM",
            "Following Collobert et al. (2011), we feed the output of the second layer",
            "Efficacy of antimicrobial-impregnated catheters",
            "III. Off-the-shelf: uses existing libraries",
            "Table 2 shows the results based on 500 papers",
            "4We also experimented with a “pure” rules-based approach which disambiguates",
        ),
        absent=(
            "Proceedings of NAACL",
            "waleeda@allenai.org",
            "Allen Institute for Artificial Intelligence, Seattle",
            "links to",
            "\n84\n",
            "\n  86\n",
            "Lucene",
            "References",
        ),
    ),
    "specter.pdf": Expected(
        title="SPECTER: Document-level Representation Learning using "
        "Citation-informed Transformers",
        abstract_starts="Representation learning is a critical ingredient for natural language",
        abstract_ends="We show that SPECTER outperforms a variety of competitive baselines on the "
        "benchmark.",
        headings=(
            "1 Introduction",
            "2 Model",
            "2.1 Overview",
            "2.2 Background: Pretrained Transformers",
            "2.3 Citation-Based Pretraining Objective",
            "2.4 Selecting Negative Distractors",
            "2.5 Inference",
            "3 SCIDOCS Evaluation Framework",
            "3.1 Document Classification",
            "3.2 Citation Prediction",
            "3.3 User Activity",
            "3.4 Recommendation",
            "4 Experiments",
            "5 Results",
            "6 Analysis",
            "7 Related Work",
            "8 Conclusions and Future Work",
        ),
        captions=(
            "Figure 1: Overview of SPECTER.",
            "Table 1: Results on the SCIDOCS evaluation suite consisting of 7 tasks.",
            "Table 2: Ablations: Numbers are averages of metrics for each evaluation task: CLS: "
            "classification, USR: User activity, CITE: Citation prediction, REC: Recommendation, "
            "Avg. average over all tasks & metrics.",
            "Figure 2: ",
            "Table 3: Comparison with task-specific fine-tuning.",
        ),
        in_order=(
            "for representing individual words or sentences, extensions to whole-document "
            "embeddings are relatively underexplored",
            "the [SEP] token. We use SciBERT as our model initialization",
            "using the following triplet margin loss function",
            "Given a query paper, intuitively we would expect the model",
            "whether its advantages on the offline dataset translate into improvements",
            "since it is the state-of-the-art pretrained language model on scientific text",
            "predicting user activity is shown in the “User activity” columns of Table 1",
            "We start by analyzing how adding or removing metadata fields",
            "to have high correlation with paper topics). The fact that SPECTER does not require",
            "13We experimented with both concatenating authors with the title and abstract",
        ),
        absent=(
            "2270",
            "2276",
            "Proceedings of the 58th",
            "Association for Computational Linguistics",
            "Equal contribution",
            "dougd",
            "Waleed Ammar",
            "References",
        ),
    ),
    "openreviewer.pdf": Expected(
        title="OpenReviewer: A Specialized Large Language Model for Generating Critical Scientific "
        "Paper Reviews",
        abstract_starts="We present OpenReviewer, an open-source system for generating",
        abstract_ends="OpenReviewer is available as an online demo and open-source tool.",
        headings=(
            "1 Introduction",
            "2 Motivation",
            "3 OpenReviewer",
            "3.1 Demo Interface",
            "3.2 Llama-OpenReviewer-8B",
            "3.2.1 Training Data",
            "3.3 Prompt Design",
            "3.4 Training",
            "4 Evaluation",
            "4.1 Matching Recommendations",
            "4.2 Review Arena",
            "5 Discussion",
            "6 Related Work",
            "6.1 AI-Assisted Peer Review",
            "6.2 Review Generation with Large Language Models",
            "6.3 Datasets and Resources",
            "6.4 Evaluation of Review Quality",
            "6.5 Ethics and Bias in Peer Review",
            "7 Conclusion",
            "Limitations",
            "Ethics and Broader Impact Statement",
        ),
        captions=(
            "Figure 1: Annotated screenshot of the OpenReviewer demo hosted on Huggingface Spaces, "
            "with slightly modified layout.",
            "Table 1: Exact Match (EM) and average error for the recommendation",
            "Table 2: Average of recommendations in reviews for 400 test papers",
            "Figure 2: Preference evaluation using GPT-4o as the annotator, judging which "
            "generated review aligns better with a set of human-written reviews.",
        ),
        in_order=(
            "capabilities in understanding and generating academic content",
            "While OpenReviewer is not intended to replace human peer reviews, it provides authors "
            "with a valuable tool",
            "The verbatim prompts are shown in Section A.1.",
            "approximately 34 hours using 64 NVIDIA A100 80GB GPUs",
            "normalize the recommendation scores to a scale from 1 (strong reject) to 10",
            "OpenReviewer 55.5 0.96 ± 0.85",
            "This is similar to MT bench (Zheng et al., 2023) and AlpacaEval",
            "Human Reviewers 5.4 ± 1.2",
            "Our results demonstrate that OpenReviewer generates reviews",
        ),
        absent=(
            "arXiv:2412",
            "18 Mar 2025",
            "idahl@l3s.de",
            "Leibniz University",
            "Drop File Here",
            "GPT-4o (2024-11-20) 0%",
            "25%",
            "References",
        ),
    ),
}

SHARED_PAPERS = {
    "attention_neurips2017_1col.pdf": Expected(
        title="Attention Is All You Need",
        abstract_starts="The dominant sequence transduction models are based on complex recurrent",
        abstract_ends="of the training costs of the best models from the literature.",
        headings=(
            "1 Introduction",
            "2 Background",
            "3 Model Architecture",
            "3.1 Encoder and Decoder Stacks",
            "3.2 Attention",
            "3.2.1 Scaled Dot-Product Attention",
            "3.2.2 Multi-Head Attention",
            "3.2.3 Applications of Attention in our Model",
            "3.3 Position-wise Feed-Forward Networks",
            "3.4 Embeddings and Softmax",
            "3.5 Positional Encoding",
            "4 Why Self-Attention",
            "5 Training",
            "5.1 Training Data and Batching",
            "5.2 Hardware and Schedule",
            "5.3 Optimizer",
            "5.4 Regularization",
            "6 Results",
            "6.1 Machine Translation",
            "6.2 Model Variations",
            "7 Conclusion",
        ),
        captions=(
            "Figure 1: The Transformer - model architecture.",
            "Figure 2: (left) Scaled Dot-Product Attention. (right) Multi-Head Attention consists",
            "Table 1: Maximum path lengths, per-layer complexity",
            "Table 2: The Transformer achieves better BLEU scores",
            "Table 3: Variations on the Transformer architecture.",
        ),
        in_order=(
            "long short-term memory [12] and gated recurrent [7] neural networks in particular",
            "The first is a multi-head self-attention mechanism, and the second is a simple, "
            "position-wise fully connected feed-forward network",
            "The input consists of queries and keys of dimension dk",
            "Transformer (big) 28.4 41.0",
        ),
        absent=(
            "31st Conference",
            "avaswani@google.com",
            "Listing order is random",
            "Nx",
            "Positional\n",
            "Geoffrey Hinton",
        ),
    ),
    "agarwal_icml2011_2col_math.pdf": Expected(
        title="Noisy Matrix Decomposition via Convex Relaxation: Optimal Rates in High Dimensions",
        abstract_starts="We analyze a class of estimators based on a convex relaxation for solving "
        "high-dimensional matrix decomposition problems.",
        abstract_ends="The sharpness of our theoretical predictions is also confirmed in numerical "
        "simulations.",
        headings=(
            "1. Introduction",
            "2. Convex relaxations and matrix decomposition",
            "3. Main results and their consequences",
            "3.1. Decomposable regularizers",
            "3.2. A general result",
            "3.5. Lower Bounds",
            "4.1. Proof of Corollary 1",
            "4.2. Proof of Corollary 2",
            "5. Experimental results",
            "6. Discussion",
        ),
        captions=("Figure 1. ", "Figure 2. ", "Figure 3. ", "Figure 4. "),
        in_order=(
            "In this paper, we study a class of high-dimensional matrix decomposition problems",
            "is low-rank, either exactly or in an approximate sense",
            "Problems of matrix decomposition are motivated by a variety of applications",
            "that might affect only a few observations",
        ),
        absent=(
            "Appearing in Proceedings",
            "Copyright 2011",
            "alekh@eecs.berkeley.edu",
        ),
    ),
    "bagnell_icml2011_2col_math.pdf": Expected(
        title="Computational Rationalization: The Inverse Equilibrium Problem",
        abstract_starts="Modeling the purposeful behavior of imperfect agents from a small number",
        abstract_ends="as well as recovering a reward function in these domains.",
        headings=(
            "1. Introduction",
            "2. Game Theory Background",
            "3. Imitation Learning in Matrix Games",
            "3.1. Rationality Assumptions",
            "3.2. Inverse Correlated Equilibria",
            "3.3. Principle of Maximum Entropy",
            "3.4. Prediction of Behavior",
            "3.5. Transfer of Behavior",
            "4. Duality and Efficient Optimization",
            "5. Sample Complexity",
            "6. Experimental Results",
            "7. Conclusion",
        ),
        captions=("Figure 1. ", "Figure 2. ", "Table 1. Transfer error (log-loss)"),
        in_order=(
            "Predicting the actions of others in complex and strategic settings",
            "such frameworks are often ill-suited for predicting the behavior that an agent will",
            "is important for understanding the incentive to deviate from",
            "We are now equipped with the tools necessary to introduce our approach",
            "Thus, we require some form of rationality.",
            "Unfortunately, a direct translation of the strong rationality requirement",
        ),
        absent=("Appearing in Proceedings", "waugh@cs.cmu.edu", "Pittsburgh, PA"),
    ),
    "smith_stoc2007_2col_math.pdf": Expected(
        title="Smooth Sensitivity and Sampling in Private Data Analysis",
        abstract_starts="We introduce a new, generic framework for private data analysis.",
        abstract_ends="clustering and learning mixtures of Gaussians.",
        headings=(
            "1. INTRODUCTION",
            "1.1 Privacy Definition",
            "1.2 Calibrating Noise to Sensitivity",
            "1.3 Smooth Sensitivity",
            "1.4 The Sample and Aggregate Framework",
            "2. INSTANCE-BASED ADDITIVE NOISE",
            "3. COMPUTING SMOOTH SENSITIVITY",
            "3.1 Median",
            "4. SAMPLE-AGGREGATE FRAMEWORK",
            "5. APPLYING SAMPLE-AGGREGATE",
            "5.2 Learning Mixtures of Gaussians",
        ),
        captions=(
            "Figure 1: A sensitive 2-sed instance",
            "Figure 2: The Sample-Aggregate Framework",
        ),
        in_order=(
            "Data privacy is a fundamental problem of the modern information infrastructure.",
            "Claim 1.3 yields two generic approaches to constructing database access mechanisms",
            "The reader might be concerned that when the noise depends on the database, the client "
            "will not know the accuracy",
            "We define a class of smooth upper bounds",
            "It has zero mean, and standard deviation",
            "Sample and aggregate works by replacing f with a related function",
        ),
        absent=(
            "Permission to make digital",
            "San Diego, California",
            "asmith@cse.psu.edu",
            "Categories and Subject Descriptors",
            "Research partially supported",
        ),
    ),
}


@lru_cache(maxsize=16)
def _read(path: Path) -> Paper:
    return read_pdf(path, max_pages=100)


def _check(paper: Paper, expected: Expected) -> None:
    assert paper.title == expected.title
    assert paper.abstract.startswith(expected.abstract_starts)
    assert paper.abstract.endswith(expected.abstract_ends)
    headings = [section.heading for section in paper.sections]
    assert [heading for heading in headings if heading in expected.headings] == list(
        expected.headings
    )
    assert len(paper.captions) == len(expected.captions)
    for caption, start in zip(sorted(paper.captions), sorted(expected.captions), strict=True):
        assert caption.startswith(start)
    content = "\n".join(section.text for section in paper.sections)
    places = [content.lower().find(phrase.lower()) for phrase in expected.in_order]
    assert -1 not in places, expected.in_order[places.index(-1)]
    assert places == sorted(places)
    for phrase in expected.absent:
        assert phrase not in paper.text


@pytest.mark.parametrize("name", EXAMPLE_PAPERS)
def test_example_paper_reads_as_a_person_would_read_it(name: str) -> None:
    _check(_read(EXAMPLES / name), EXAMPLE_PAPERS[name])


@pytest.mark.parametrize("name", EXAMPLE_PAPERS)
def test_example_paper_has_exactly_the_printed_headings_and_no_flags(name: str) -> None:
    paper = _read(EXAMPLES / name)
    assert tuple(section.heading for section in paper.sections) == EXAMPLE_PAPERS[name].headings
    assert paper.flags == ()


@pytest.mark.parametrize("name", SHARED_PAPERS)
def test_shared_paper_reads_as_a_person_would_read_it(shared_pdfs: Path, name: str) -> None:
    _check(_read(shared_pdfs / name), SHARED_PAPERS[name])


def test_every_shared_pdf_gives_a_title_an_abstract_and_prose(shared_pdfs: Path) -> None:
    for path in sorted(shared_pdfs.glob("*.pdf")):
        if path.name.startswith("NOTAPAPER"):
            continue
        paper = _read(path)
        assert len(paper.title) > 10, path.name
        assert 400 < len(paper.abstract) < 3000, path.name
        assert len(paper.sections) >= 5, path.name
        assert len(paper.text) > 15_000, path.name
