"""Students: the compact classifiers distilled from probabilistic labels, and their export.

A student is one file with one interface (`base.Student`) and one line in `STUDENTS`. `fit_student` trains any of them on
plain values; `stage` reads from and writes to the warehouse; `export` and `predict` are what the user takes home.
"""

from __future__ import annotations

from factory.students.base import STUDENTS, Student, fit_student, student_class

__all__ = ["STUDENTS", "Student", "fit_student", "student_class"]
