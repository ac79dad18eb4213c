"""Li & Deng 2019: RAF-DB and DLP-CNN."""
